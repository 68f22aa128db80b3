"""Export: pseudonyms, one index scan a patient, nothing written twice or silently, every exclusion with its reason."""

import csv
import gzip
import json
import stat
from datetime import date

import pytest

from engines.case import check_case
from engines.clinical.regimen import parse_regimen
from engines.clinical.table import ClinicalTable
from engines.errors import CaseRefused
from engines.network_input import Preprocessing
from engines.phase import Phase
from node.cohort.case import read_source_digest
from node.cohort.export import Exporter, ExportPlan, Fate
from node.cohort.linkage import Linkage
from node.cohort.pseudonymise import Pseudonyms, open_pseudonyms
from node.cohort.selection import Exclusion, Scan, choose_index_scan
from node.errors import ExportRefused, SecretRefused
from tests.small_export import make_patient, make_row, make_study

SMALL = Preprocessing(side=8)


def export(folder, studies, rows=None, **changes):
    plan = ExportPlan(
        cohort=folder / "cohort",
        preprocessing=changes.pop("preprocessing", SMALL),
        table=ClinicalTable(rows=tuple(rows if rows is not None else [make_row(1), make_row(2)])),
        **changes,
    )
    return Exporter(plan, Linkage.open(folder / "linkage"), lambda _: None).run(studies)


def cases_in(folder):
    return sorted(path.parent.name for path in (folder / "cohort").glob("*/case.json"))


def test_no_exported_byte_tells_the_patient(tmp_path):
    studies = [make_study(tmp_path, 1), make_study(tmp_path, 2), make_study(tmp_path, 3)]
    outcomes = export(tmp_path, studies, centre="site-a")
    assert [one.fate for one in outcomes] == [Fate.EXCLUDED, Fate.EXPORTED, Fate.EXPORTED]
    told = [b"Mustermann", b"Erika", b"MRN-00", b"1.2.840.99999", b"HOSPITAL"]
    told += [b"2024-05-06", b"20240506", b"2024-05-20", b"20240520", b"1951-03-17", b"19510317"]
    files = [path for path in (tmp_path / "cohort").rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".nrrd" and b"encoding: gzip" in content:
            content += gzip.decompress(content.split(b"\n\n", 1)[1])
        for word in told:
            assert word not in content, (path, word)
            assert word.decode() not in str(path.relative_to(tmp_path / "cohort"))


def test_an_exported_case_is_sealed_keeps_the_synthetic_flag_and_holds_the_input(tmp_path):
    export(tmp_path, [make_study(tmp_path, 1)], centre="site-a")
    (name,) = cases_in(tmp_path)
    case, identity = check_case(tmp_path / "cohort" / name)
    assert identity.synthetic
    assert identity.case_id == name
    assert identity.study.startswith("2.25.")
    assert len(identity.patient_key) == 32
    assert identity.mask_provider == "baseline 1"
    assert case.read_network_input().shape == (3, 8, 8, 8)
    assert case.read_volume(Phase.DELAYED).array.dtype.name == "int16"
    assert not (case.folder / "steps").exists()
    provenance = case.read_json("provenance")
    assert provenance["scan_age_days"] == 14
    assert provenance["result_shown"] is True
    assert case.read_json("acquisition")["centre"] == "site-a"
    assert case.read_json("clinical")["age"]["number"] == 90.0  # ages above 89 are not stated


def test_the_secret_and_the_register_are_the_owners_alone(tmp_path):
    export(tmp_path, [make_study(tmp_path, 1)])
    for name in ("pseudonyms.key", "register.json"):
        assert stat.S_IMODE((tmp_path / "linkage" / name).stat().st_mode) == 0o600
    (tmp_path / "linkage" / "pseudonyms.key").chmod(0o640)
    with pytest.raises(SecretRefused, match="0640"):
        open_pseudonyms(tmp_path / "linkage" / "pseudonyms.key")


def test_pseudonyms_need_the_secret_and_tell_kinds_apart():
    one, other = Pseudonyms(b"a" * 32), Pseudonyms(b"b" * 32)
    assert one.patient_key("X", "1") == one.patient_key("X", "1")
    assert one.patient_key("X", "1") != other.patient_key("X", "1")
    assert one.digest("case", "12", "3") != one.digest("case", "1", "23")
    assert "aaaa" not in repr(one)
    assert len(one.uid("1.2.3")) <= 64


def test_a_second_export_writes_nothing(tmp_path):
    studies = [make_study(tmp_path, 1), make_study(tmp_path, 2)]
    export(tmp_path, studies)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cohort").glob("*/*") if path.is_file()}
    again = export(tmp_path, studies)
    assert [one.fate for one in again] == [Fate.PRESENT, Fate.PRESENT]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cohort").glob("*/*") if path.is_file()}
    assert after == before


def test_an_export_that_was_stopped_goes_on(tmp_path):
    def stop(line):
        if "exported" in line:
            raise KeyboardInterrupt

    studies = [make_study(tmp_path, 1), make_study(tmp_path, 2)]
    plan = ExportPlan(
        cohort=tmp_path / "cohort",
        preprocessing=SMALL,
        table=ClinicalTable(rows=(make_row(1), make_row(2))),
    )
    with pytest.raises(KeyboardInterrupt):
        Exporter(plan, Linkage.open(tmp_path / "linkage"), stop).run(studies)
    assert len(cases_in(tmp_path)) == 1
    assert [one.fate for one in export(tmp_path, studies)] == [Fate.PRESENT, Fate.EXPORTED]


def test_a_changed_study_is_never_written_over_silently(tmp_path):
    export(tmp_path, [make_study(tmp_path, 1)])
    (name,) = cases_in(tmp_path)
    sealed = (tmp_path / "cohort" / name / "case.json").read_bytes()
    changed = [make_row(1, regimen=None, variables=make_row(2).variables.__class__(values={}))]
    study = make_study(tmp_path / "again", 1)
    (kept,) = export(tmp_path, [study], changed)
    assert (kept.fate, kept.reason) == (Fate.EXCLUDED, Exclusion.CHANGED_SINCE_EXPORT)
    assert (tmp_path / "cohort" / name / "case.json").read_bytes() == sealed
    (replaced,) = export(tmp_path, [study], changed, replace=True)
    assert replaced.fate == Fate.REPLACED
    assert (tmp_path / "cohort" / name / "case.json").read_bytes() != sealed


@pytest.mark.parametrize(
    ("changes", "centre"),
    [
        ({"regimen": parse_regimen("camrelizumab+apatinib")}, "site-a"),
        ({"start": date(2024, 5, 27)}, "site-a"),
        ({}, "site-b"),
    ],
    ids=["regimen", "first dose", "centre"],
)
def test_a_fact_that_changed_after_the_export_is_told_and_written_when_asked(tmp_path, changes, centre):
    study = make_study(tmp_path, 1)
    export(tmp_path, [study], centre="site-a")
    (name,) = cases_in(tmp_path)
    sealed = (tmp_path / "cohort" / name / "case.json").read_bytes()
    rows = [make_row(1, **changes)]
    (kept,) = export(tmp_path, [study], rows, centre=centre)
    assert (kept.fate, kept.reason) == (Fate.EXCLUDED, Exclusion.CHANGED_SINCE_EXPORT)
    assert (tmp_path / "cohort" / name / "case.json").read_bytes() == sealed
    (written,) = export(tmp_path, [study], rows, centre=centre, replace=True)
    assert written.fate is Fate.REPLACED
    assert (tmp_path / "cohort" / name / "case.json").read_bytes() != sealed
    (again,) = export(tmp_path, [study], rows, centre=centre)
    assert again.fate is Fate.PRESENT


def test_a_first_dose_that_only_an_import_told_changes_no_case(tmp_path):
    study = make_study(tmp_path, 1)
    export(tmp_path, [study], [make_row(1, start=None)])
    linkage = Linkage.open(tmp_path / "linkage")
    (patient,) = linkage.patients.values()
    linkage.note_start(patient, date(2024, 5, 20))
    linkage.save()
    (again,) = export(tmp_path, [study], [make_row(1, start=None)])
    assert again.fate is Fate.PRESENT


def test_a_replaced_case_keeps_its_outcomes(tmp_path):
    export(tmp_path, [make_study(tmp_path, 1)])
    (name,) = cases_in(tmp_path)
    (tmp_path / "cohort" / name / "outcomes.json").write_text('{"os": {"months": 3.0, "event": true}}')
    newer = make_study(tmp_path, 1, study=2, day=date(2024, 5, 13))
    (kept,) = export(tmp_path, [newer])
    assert (kept.fate, kept.reason) == (Fate.EXCLUDED, Exclusion.PATIENT_HAS_CASE)
    (replaced,) = export(tmp_path, [newer], replace=True)
    assert replaced.fate == Fate.REPLACED
    (name,) = cases_in(tmp_path)
    assert name == replaced.case_id
    case, _ = check_case(tmp_path / "cohort" / name)
    assert case.read_json("outcomes")["os"]["months"] == 3.0


def test_the_last_scan_before_the_first_dose_is_the_case(tmp_path):
    days = {1: date(2024, 4, 1), 2: date(2024, 5, 6), 3: date(2024, 7, 1)}
    studies = [make_study(tmp_path, 1, study=study, day=day) for study, day in days.items()]
    outcomes = {one.study_instance_uid[-1]: one for one in export(tmp_path, studies)}
    assert outcomes["2"].fate == Fate.EXPORTED
    assert outcomes["1"].reason == Exclusion.NOT_INDEX_SCAN
    assert outcomes["3"].reason == Exclusion.AFTER_TREATMENT_START
    with (tmp_path / "cohort" / "exclusions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["reason"] for row in rows) == ["after_treatment_start", "not_index_scan"]
    assert all(row["study"].startswith("2.25.") for row in rows)


def test_a_scan_that_cannot_be_assessed_gives_way_to_the_one_before(tmp_path):
    early = make_study(tmp_path, 1, study=1, day=date(2024, 5, 1))
    late = make_study(tmp_path, 1, study=2, day=date(2024, 5, 10), refusal="missing_phase")
    outcomes = {one.study_instance_uid[-1]: one for one in export(tmp_path, [early, late])}
    assert (outcomes["2"].fate, outcomes["2"].reason) == (Fate.EXCLUDED, "missing_phase")
    assert outcomes["1"].fate == Fate.EXPORTED


def test_without_a_first_dose_the_exported_scan_stays(tmp_path):
    rows = [make_row(1, start=None)]
    export(tmp_path, [make_study(tmp_path, 1)], rows)
    follow_up = make_study(tmp_path, 1, study=2, day=date(2024, 9, 1))
    (outcome,) = export(tmp_path, [follow_up], rows)
    assert outcome.reason == Exclusion.PATIENT_HAS_CASE


def test_a_case_found_to_be_a_follow_up_is_named_and_taken_out_when_asked(tmp_path):
    study = make_study(tmp_path, 1)
    export(tmp_path, [study], [make_row(1, start=None)])
    known = [make_row(1, start=date(2024, 5, 1))]
    (stays,) = export(tmp_path, [study], known)
    assert (stays.fate, stays.reason) == (Fate.STAYS, "after_treatment_start")
    assert len(cases_in(tmp_path)) == 1
    (gone,) = export(tmp_path, [study], known, replace=True)
    assert gone.fate == Fate.WITHDRAWN
    assert cases_in(tmp_path) == []


def test_one_patient_under_two_identifiers_is_found_by_the_voxels(tmp_path):
    first, second = make_study(tmp_path, 1, seed=7), make_study(tmp_path, 2, seed=7)
    outcomes = export(tmp_path, [first, second])
    assert [one.fate for one in outcomes] == [Fate.EXPORTED, Fate.EXCLUDED]
    assert outcomes[1].reason == Exclusion.DUPLICATE_IMAGES


def test_a_missing_issuer_does_not_make_a_second_patient(tmp_path):
    linkage = Linkage.open(tmp_path / "linkage")
    first = linkage.patient("4711", "")
    again = linkage.patient("4711", "EAST")
    assert again.key == first.key
    assert linkage.patient("4711", "").issuer == "EAST"
    assert linkage.patient("4711", "WEST").key != first.key


def test_who_cannot_be_exported_is_listed_with_the_reason(tmp_path):
    nameless = make_study(tmp_path, 9, patient=make_patient(9).__class__())
    other_birth_date = [make_row(1, birth_date=date(1950, 1, 1))]
    outcomes = export(
        tmp_path, [nameless, make_study(tmp_path, 1), make_study(tmp_path, 5)], other_birth_date
    )
    assert [one.reason for one in outcomes] == [
        "no_patient_id",
        "clinical_row_contradicts",
        "no_clinical_row",
    ]
    (unlabelled,) = export(tmp_path, [make_study(tmp_path / "b", 5)], [], unlabelled=True)
    assert unlabelled.fate == Fate.EXPORTED


def test_a_dry_run_writes_nothing(tmp_path):
    (outcome,) = export(tmp_path, [make_study(tmp_path, 1)], dry_run=True)
    assert outcome.fate == Fate.EXPORTED
    assert not (tmp_path / "cohort").exists()
    assert not (tmp_path / "linkage" / "register.json").exists()


def test_a_cohort_keeps_one_preprocessing(tmp_path):
    export(tmp_path, [make_study(tmp_path, 1)])
    with pytest.raises(ExportRefused, match="side"):
        export(tmp_path, [make_study(tmp_path, 2)], preprocessing=Preprocessing(side=10))


def test_a_damaged_case_of_the_cohort_is_not_taken_for_present(tmp_path):
    study = make_study(tmp_path, 1)
    export(tmp_path, [study])
    (name,) = cases_in(tmp_path)
    (tmp_path / "cohort" / name / "clinical.json").write_text(json.dumps({}))
    with pytest.raises(CaseRefused, match="SHA-256"):
        read_source_digest(tmp_path / "cohort" / name)
    with pytest.raises(CaseRefused, match="SHA-256"):
        export(tmp_path, [study])


def test_scans_without_a_day_are_no_index_scan_once_time_zero_is_known():
    scan = Scan(study_instance_uid="1", examined_on=None)
    assert choose_index_scan([scan], date(2024, 1, 1)).excluded == ((scan, Exclusion.NO_STUDY_DATE),)
    assert choose_index_scan([scan], None).candidates == (scan,)
