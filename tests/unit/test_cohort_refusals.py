"""One study that cannot be a case never ends the export of the others, and is listed with its reason."""

import csv
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import SimpleITK as sitk

from engines.case import seal_case, write_image, write_transform
from engines.clinical.table import ClinicalTable
from engines.errors import CaseRefused
from engines.network_input import Preprocessing
from engines.phase import Phase
from engines.volume import Volume
from node.cohort.export import Exporter, ExportPlan, Fate
from node.cohort.linkage import Linkage
from tests.small_export import make_row, make_study

SMALL = Preprocessing(side=8)


def export(folder, studies):
    plan = ExportPlan(
        cohort=folder / "cohort",
        preprocessing=SMALL,
        table=ClinicalTable(rows=(make_row(1), make_row(2))),
    )
    return Exporter(plan, Linkage.open(folder / "linkage"), lambda _: None).run(studies)


def read_exclusions(folder):
    with (folder / "cohort" / "exclusions.csv").open() as file:
        return [row["reason"] for row in csv.DictReader(file)]


def spoil(study, change):
    """The study with a case folder that ``change`` altered after it was assessed."""

    def make(row, progress):
        prepared = study.make(row, progress)
        change(prepared.case)
        seal_case(prepared.case, prepared.identity)
        return prepared

    return replace(study, make=make)


def shift_delayed_phase(case):
    """The delayed phase shows less of the liver than the network input asks for."""
    transform = sitk.TranslationTransform(3)
    transform.SetOffset((0.0, 0.0, 30.0))
    write_transform(transform, case.transform_path(Phase.DELAYED))


def empty_liver(case):
    liver = case.read_mask("liver")
    write_image(Volume(array=np.zeros_like(liver.array), grid=liver.grid), case.mask_path("liver"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(shift_delayed_phase, "poor_registration"), (empty_liver, "implausible_liver")],
)
def test_a_study_without_network_input_is_excluded_and_the_next_is_exported(tmp_path, change, reason):
    bad = spoil(make_study(tmp_path, 1), change)
    for fate in (Fate.EXPORTED, Fate.PRESENT):
        outcomes = export(tmp_path, [bad, make_study(tmp_path / fate, 2)])
        assert [one.fate for one in outcomes] == [Fate.EXCLUDED, fate]
        assert outcomes[0].reason == reason
    assert read_exclusions(tmp_path) == [reason]
    linked = Linkage.open(tmp_path / "linkage").cases
    assert list(linked) == [path.parent.name for path in (tmp_path / "cohort").glob("*/case.json")]


def test_a_refused_network_input_gives_way_to_the_scan_before(tmp_path):
    early = make_study(tmp_path, 1, study=1, day=date(2024, 5, 1))
    late = spoil(make_study(tmp_path, 1, study=2, day=date(2024, 5, 10)), shift_delayed_phase)
    outcomes = {one.study_instance_uid[-1]: one.fate for one in export(tmp_path, [early, late])}
    assert outcomes == {"1": Fate.EXPORTED, "2": Fate.EXCLUDED}


def test_an_export_that_ends_in_an_error_has_listed_what_it_excluded(tmp_path):
    def fail(row, progress):
        raise CaseRefused("the disk gave other bytes")

    refused = make_study(tmp_path, 1, refusal="missing_phase")
    damaged = replace(make_study(tmp_path, 2), make=fail)
    with pytest.raises(CaseRefused, match="other bytes"):
        export(tmp_path, [refused, damaged])
    assert read_exclusions(tmp_path) == ["missing_phase"]


def test_what_was_prepared_is_discarded_when_it_is_refused(tmp_path):
    gone = []
    study = spoil(make_study(tmp_path, 1), empty_liver)
    export(tmp_path, [replace(study, discard=lambda: gone.append(True))])
    assert gone
