"""Phase recognition against labels and measurements that others made: descriptions, vessel HU, real headers."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from engines.phase import Phase
from node.dicom.headers import read_folder
from node.phases.acquisitions import split_acquisitions
from node.phases.descriptions import plan_descriptions, read_descriptions
from node.phases.passes import hounsfield_likelihood
from node.phases.plan import plan_phases
from node.phases.rules import STATES, StudentT, load_rules

GOLDEN = Path(__file__).parent.parent / "golden"
RULES = load_rules()
PHASES = [phase.value for phase in Phase]


@pytest.fixture(scope="module")
def judged(test_data):
    """Per row of the real descriptions: (half, label, phase given or None)."""
    findings = plan_descriptions(read_descriptions(test_data / "phase/series-descriptions.csv"), RULES)
    with (GOLDEN / "phase_labels.csv").open(newline="") as stream:
        labels = list(csv.DictReader(stream))
    assert len(labels) == len(findings) >= 300
    return [
        (label["half"], label["label"], None if finding.phase is None else finding.phase.value)
        for label, finding in zip(labels, findings, strict=True)
    ]


@pytest.mark.parametrize("half", ["rules", "held_out"])
def test_phases_of_real_descriptions_are_right_or_not_given(judged, half):
    rows = [(label, given) for which, label, given in judged if which == half]
    given = [(label, phase) for label, phase in rows if phase is not None]
    labelled = [(label, phase) for label, phase in rows if label in PHASES]
    precision = sum(label == phase for label, phase in given) / len(given)
    coverage = sum(label == phase for label, phase in labelled) / len(labelled)
    assert precision >= 0.99, f"{half}: {precision:.4f} of {len(given)} phases given are right"
    assert coverage >= 0.90, f"{half}: {coverage:.4f} of {len(labelled)} labelled rows are found"


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_phases_of_written_descriptions_are_right_or_not_given(tmp_path, number):
    with (GOLDEN / "phase_descriptions.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["set"] == number]
    table = tmp_path / "rows.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", "study_date", "series_description"])
        writer.writerows([place, "", row["series_description"]] for place, row in enumerate(rows))
    check_phases(rows, table)


def test_phases_of_written_studies_are_right_or_not_given():
    table = GOLDEN / "phase_study_descriptions.csv"
    with table.open(newline="", encoding="utf-8") as stream:
        check_phases(list(csv.DictReader(stream)), table)


def check_phases(rows, table):
    """At most 1 % of the phases given are wrong, at most 5 % of those that must be found are not."""
    findings = plan_descriptions(read_descriptions(table), RULES)
    told = [None if finding.phase is None else finding.phase.value for finding in findings]
    pairs = list(zip(rows, told, strict=True))
    wrong = [(row["series_description"], phase) for row, phase in pairs if phase not in (None, row["label"])]
    asked = [phase for row, phase in pairs if row["label"] in PHASES and row["may_abstain"] == "no"]
    assert len(wrong) <= 0.01 * (len(told) - told.count(None)), wrong
    assert asked.count(None) <= 0.05 * len(asked)


@pytest.fixture(scope="module")
def scans(test_data):
    """The fitting script as a module, and (vessel HU, phase, cohort) of real scans."""
    spec = importlib.util.spec_from_file_location("fit_phase_hounsfield", GOLDEN / "fit_phase_hounsfield.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script, *script.read_scans(test_data / "phase/hu-by-phase.csv")


def fitted_rules(script, values, phases):
    """The rules with the HU of these scans instead of the fitted ones."""
    fits = {}
    for phase in ("PRE_CONTRAST", "ARTERIAL", "PORTAL_VENOUS"):
        location, scale = script.fit_student(values[phases == phase])
        fits[phase] = StudentT(location_hu=tuple(location), scale_hu2=tuple(map(tuple, scale)))
    return RULES.hounsfield.model_copy(update=fits)


@pytest.mark.parametrize(("learnt", "judged_cohort"), [("internal", "external"), ("external", "internal")])
def test_vessel_hu_of_one_hospital_tell_the_phases_of_the_other(scans, learnt, judged_cohort):
    script, values, phases, cohorts = scans
    rules = fitted_rules(script, values[cohorts == learnt], phases[cohorts == learnt])
    judged_values, truth = values[cohorts == judged_cohort], phases[cohorts == judged_cohort]
    likelihoods = np.array(
        [hounsfield_likelihood({"aorta": a, "portal_vein": p}, rules)[:3] for a, p in judged_values.tolist()]
    )
    posterior = likelihoods / likelihoods.sum(axis=1, keepdims=True)
    right = np.array(STATES[:3])[posterior.argmax(axis=1)] == truth
    surest = np.argsort(-posterior.max(axis=1), kind="stable")[: int(np.ceil(0.8 * len(truth)))]
    assert right.mean() >= 0.94
    assert right[surest].mean() >= 0.975


def test_fitted_numbers_of_the_rules_are_those_of_the_script(scans):
    script, values, phases, _ = scans
    for phase in ("PRE_CONTRAST", "ARTERIAL", "PORTAL_VENOUS"):
        location, scale = script.fit_student(values[phases == phase])
        fit = getattr(RULES.hounsfield, phase)
        assert fit.location_hu == pytest.approx(location, abs=0.06)
        assert np.allclose(fit.scale_hu2, scale, atol=0.06)


def test_real_hcc_headers_are_never_given_a_wrong_phase(test_data):
    instances, _ = read_folder(test_data / "headers-hcc-tace-seg")
    assert len(instances) == 50
    given = 0
    for instance in instances:
        (finding,) = plan_phases(split_acquisitions([instance]), {}, RULES).findings
        native = "PRE" in instance.series_description
        assert finding.phase == (Phase.PRE_CONTRAST if native else None), instance.series_description
        assert not finding.used
        given += native
    assert given == 38


def test_real_traps_are_no_phase_and_say_why(test_data):
    studies = {}
    for instance in read_folder(test_data / "headers-mixed")[0]:
        studies.setdefault(instance.study_instance_uid, []).append(instance)
    for members in studies.values():
        for finding in plan_phases(split_acquisitions(members), {}, RULES).findings:
            assert finding.phase is None
            assert finding.excluded
