"""The report as HTML, PDF and CSV: nothing of a table's text becomes markup, nothing is lost on the way."""

import csv
from io import BytesIO

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from engines.errors import InvalidInput
from engines.survival.decision import NetBenefit
from engines.survival.outcome import Outcome
from train.evaluate.document import Document, Picture, Row, RowKind, Section, Table, Text
from train.evaluate.figures import BenefitLine, SurvivalPanel, draw_decision_curves, draw_survival_panels
from train.evaluate.folder import write_report
from train.evaluate.html import write_html
from train.evaluate.measures import split_by_risk
from train.evaluate.pdf import write_pdf

HOSTILE = '<script>alert("x")</script> & <b>'


def picture():
    stream = BytesIO()
    Image.new("RGB", (30, 20), "white").save(stream, format="PNG")
    return Picture(name="figure", title="A figure", png=stream.getvalue())


def document(rows=3):
    table = Table(
        name="numbers",
        title=f"Numbers {HOSTILE}",
        header=("Model", "A column with a long name that wraps in the page", "P"),
        rows=(
            Row(cells=("Zürich ≥ 2",), kind=RowKind.HEADING),
            *(Row(cells=(f"model {k} {HOSTILE}", "0.72 (0.66-0.78) " * 6, "<0.001")) for k in range(rows)),
            Row(cells=("published", "0.70", ""), kind=RowKind.PUBLISHED),
        ),
        notes=(HOSTILE,),
    )
    parts = (Text(lines=(HOSTILE,), bullets=True), table, picture())
    return Document(title="Report", subtitle=HOSTILE, sections=(Section(title="Part & parcel", parts=parts),))


def test_text_of_a_table_never_becomes_markup():
    page = write_html(document())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert 'class="published"' in page


def test_pdf_holds_every_row_and_repeats_the_header():
    with pypdfium2.PdfDocument(write_pdf(document(rows=60))) as pdf:
        pages = [page.get_textpage().get_text_range() for page in pdf]
    text = "".join(pages)
    assert len(pages) > 1
    assert all(f"model {k} " in text for k in range(60))
    assert text.count("A column with a long name") >= len(pages) - 1
    assert "Zürich ≥ 2" in text


def test_a_table_broader_than_a_page_is_split_and_a_word_longer_than_a_column_broken():
    table = Table(
        name="broad",
        title="Broad",
        header=("Model", *(f"cohort{k:02d}" for k in range(60))),
        rows=(
            Row(cells=("Group",), kind=RowKind.HEADING),
            Row(cells=("x" * 200, *(f"0.{k:02d}({k})" for k in range(60)))),
        ),
    )
    whole = Document(title="R", subtitle="", sections=(Section(title="First", parts=(table,)),))
    with pypdfium2.PdfDocument(write_pdf(whole)) as pdf:
        text = "".join(page.get_textpage().get_text_range() for page in pdf)
    assert all(f"0.{k:02d}({k})" in text and f"cohort{k:02d}" in text for k in range(60))
    parts = text.count("Broad (")
    assert parts > 1
    assert text.count("x") >= 200 * parts


def test_no_title_stands_alone_at_the_foot_of_a_page():
    parts = document(rows=4).sections[0].parts[1:2]
    for lines in range(46, 49):
        text = Text(lines=tuple("word" for _ in range(lines)))
        whole = Document(
            title="R",
            subtitle="",
            sections=(Section(title="First", parts=(text,)), Section(title="Second", parts=parts)),
        )
        with pypdfium2.PdfDocument(write_pdf(whole)) as pdf:
            pages = [page.get_textpage().get_text_range() for page in pdf]
        assert [page for page in pages if "2. Second" in page and "Numbers" in page], lines


@pytest.mark.parametrize("before", [57, 58])
def test_notes_stay_with_their_table_and_a_heading_with_its_row(before):
    rows = tuple(Row(cells=(f"row {k}", "0.5")) for k in range(before))
    rows += (Row(cells=("a group",), kind=RowKind.HEADING), Row(cells=("its row", "0.7")))
    table = Table(name="t", title="T", header=("Model", "C"), rows=rows, notes=("first note", "second note"))
    with pypdfium2.PdfDocument(
        write_pdf(Document(title="R", subtitle="", sections=(Section(title="S", parts=(table,)),)))
    ) as pdf:
        pages = [page.get_textpage().get_text_range() for page in pdf]
    (last,) = [page for page in pages if "second note" in page]
    assert all(words in last for words in ("a group", "its row", "first note"))


@pytest.mark.parametrize("before", [57, 58, 59])
def test_a_heading_stays_with_its_row_and_what_was_published_of_it(before):
    rows = tuple(Row(cells=(f"row {k}", "0.5")) for k in range(before))
    rows += (Row(cells=("a group",), kind=RowKind.HEADING), Row(cells=("its row", "0.7")))
    rows += (Row(cells=("elsewhere", "0.8"), kind=RowKind.PUBLISHED), Row(cells=("another row", "0.9")))
    table = Table(name="t", title="T", header=("Model", "C"), rows=rows)
    with pypdfium2.PdfDocument(
        write_pdf(Document(title="R", subtitle="", sections=(Section(title="S", parts=(table,)),)))
    ) as pdf:
        pages = [page.get_textpage().get_text_range() for page in pdf]
    (one,) = [page for page in pages if "its row" in page]
    assert "a group" in one
    assert "elsewhere" in one


def test_long_names_of_models_do_not_run_into_the_next_panel():
    outcome = Outcome(np.arange(1.0, 41), np.ones(40, dtype=bool))
    high = np.arange(40) % 2 == 0
    groups = split_by_risk(high.astype(float), outcome, 0.5)

    def draw(title):
        panel = SurvivalPanel(title=title, outcome=outcome, high=high, groups=groups)
        pixels = np.asarray(Image.open(BytesIO(draw_survival_panels([panel], "OS"))).convert("L"))
        return pixels[:, pixels.shape[1] * 2 // 5 :]  # where the next panel begins

    assert (draw("a model of a long name " * 8) == 255).all()
    assert (draw("x" * 200) == 255).all()


def test_a_model_keeps_its_colour_where_another_is_not_estimable():
    points = tuple(NetBenefit(threshold=k / 10, model=0.2, everyone=0.1) for k in range(1, 10))
    one, two = (BenefitLine(model=name, points=points) for name in ("Benchmark", "MMF"))
    png = draw_decision_curves([(12.0, [two]), (24.0, [one, two])], "OS")
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)
    left, right = np.split(pixels[:, : pixels.shape[1] * 2 // 3 // 2 * 2], 2, axis=1)
    red = [(np.abs(part - (0xBF, 0x38, 0x30)).max(axis=2) < 40).any() for part in (left, right)]
    assert red == [True, True]


def test_numbers_at_risk_are_not_cut_off_in_a_single_row_of_panels():
    outcome = Outcome(np.arange(1.0, 41), np.ones(40))
    high = np.arange(40) < 20
    panel = SurvivalPanel(
        title="All", outcome=outcome, high=high, groups=split_by_risk(high.astype(float), outcome, 0.5)
    )
    with Image.open(BytesIO(draw_survival_panels([panel], "OS"))) as image:
        lowest = np.asarray(image.convert("L"))[-3:]
    assert (lowest == 255).all()


def test_folder_holds_one_csv_a_table_and_one_png_a_figure(tmp_path):
    files = write_report(document(), [{"c_index": 0.1}], tmp_path / "report")
    names = {path.relative_to(tmp_path / "report").as_posix() for path in files}
    assert names == {"report.html", "report.pdf", "records.json", "tables/numbers.csv", "figures/figure.png"}
    with (tmp_path / "report" / "tables" / "numbers.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[-1] for row in rows] == ["kind", "heading", *["value"] * 3, "published"]
    assert rows[2][0] == f"model 0 {HOSTILE}"


def test_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "report").write_text("a file")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_report(document(), [], tmp_path / "report")
