"""mRECIST against the categories that three readers gave 105 real patients (HCC-TACE-Seg, CC BY 4.0)."""

import re
import zipfile
from xml.etree import ElementTree

import pytest

from engines.clinical.response import judge_response
from engines.clinical.variables import DEFINITIONS, ClinicalVariables, Variable, parse_value

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
CATEGORIES = {"1": "CR", "2": "PR", "3": "SD", "4": "PD"}


def root_of(content):
    """The root element of an XML part of the workbook."""
    parser = ElementTree.XMLPullParser(["start"])
    parser.feed(content)
    parser.close()
    return next(parser.read_events())[1]


@pytest.fixture(scope="module")
def table(test_data):
    """The rows of the first sheet as dictionaries of text."""
    path = test_data / "headers-hcc-tace-seg" / "HCC-TACE-Seg_clinical_data-V2.xlsx"
    with zipfile.ZipFile(path) as book:
        shared = root_of(book.read("xl/sharedStrings.xml"))
        sheet = root_of(book.read("xl/worksheets/sheet1.xml"))
    strings = ["".join(part.text or "" for part in item.iter(f"{SHEET}t")) for item in shared]
    rows = []
    for row in sheet.iter(f"{SHEET}row"):
        cells = {}
        for cell in row:
            value = cell.find(f"{SHEET}v")
            if value is not None:
                column = re.match("[A-Z]+", cell.get("r")).group()
                cells[column] = strings[int(value.text)] if cell.get("t") == "s" else value.text
        rows.append(cells)
    header = rows[0]
    return [{header[column]: text for column, text in row.items()} for row in rows[1:]]


def test_gives_the_category_of_every_reading_of_three_readers(table):
    compared = 0
    for row in table:
        for reader in "123":
            before, after, category = (row.get(f"{reader}_mRECIST{part}") for part in ("_BL", "_FU", ""))
            if before is None or after is None or category not in CATEGORIES:
                continue
            compared += 1
            response = judge_response(float(before), float(after))
            assert response == CATEGORIES[category], (row["TCIA_ID"], reader, before, after)
    assert compared == 287


def test_the_real_categories_are_known_and_those_outside_the_population_are_named(table):
    outside = 0
    for row in table:
        values = {Variable.CHILD_PUGH: parse_value(Variable.CHILD_PUGH, row["CPS"])}
        values[Variable.BCLC] = parse_value(Variable.BCLC, row["BCLC"].removeprefix("Stage-"))
        values[Variable.AFP] = parse_value(Variable.AFP, row["AFP"])
        patient = ClinicalVariables(values=values)
        for variable in patient.outside_population():
            assert patient.get(variable).category in DEFINITIONS[variable].outside
            outside += 1
    assert outside > 5
