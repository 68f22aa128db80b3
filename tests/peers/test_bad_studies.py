"""Bad studies by C-STORE into one node: each is kept whole and gets one clear line, one report at the archive, no risk.

Receiver, queue, assessment, delivery and archive are the real ones, in this process. All studies arrive and are worked off
once; each test looks at its own.
"""

import csv
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from structlog.testing import capture_logs

from engines.phase import ASSESSED_PHASES, Phase
from node.app import CASES_NAME, RESULTS_NAME
from node.dicom.send import SendSettings, echo_peer, send_objects
from node.job import Job, JobState
from node.ports import Answer, Delivery
from node.report.json_form import read_json
from node.report.record import ReasonCode, Report, Status
from node.report.verify import verify_result
from node.study import Patient
from node.testing import SyntheticSlice, save_slices
from tests import bad_studies as bad
from tests.bad_studies import BIRTH_DATE, SLICES, Recipe, files_of, make_patient, write_study
from tests.whole_node import WholeNode

pytestmark = pytest.mark.timeout(1800)  # the one run of all studies is the set-up of the first test

LONG_NAME = f"{'W' * 64}={'漢' * 64}={'が' * 64}"
LONG_PATIENT = Patient(
    patient_id="P" * 64,
    issuer_of_patient_id="I" * 64,
    patient_name=LONG_NAME,
    patient_birth_date=BIRTH_DATE,
    patient_sex="M",
)


def lengthen_descriptions(folder):
    """All texts have the 64 characters that LO allows, in a script of several bytes a character."""

    def alter(dataset):
        dataset.StudyDescription = "腹部" * 32
        dataset.ProtocolName = "肝" * 64
        dataset.SeriesDescription = (dataset.SeriesDescription + " " + "門" * 64)[:64]

    bad.change(sorted(folder.glob("*.dcm")), alter)
    bad.drop_a_slice(folder)


ONE = (Phase.ARTERIAL,)
"""Enough for what is judged before the phases."""

RECIPES = {
    "truncated file": Recipe(number=1, spoil=bad.tear_a_slice),
    "cut codestream": Recipe(number=2, spoil=bad.cut_a_codestream),
    "another modality": Recipe(number=3, spoil=bad.make_it_magnetic),
    "missing slice": Recipe(number=4, spoil=bad.drop_a_slice),
    "duplicate positions": Recipe(number=5, spoil=bad.double_a_slice),
    "mixed orientations": Recipe(number=6, spoil=bad.turn_some_slices),
    "gantry tilt": Recipe(number=7, spoil=bad.tilt_the_gantry),
    "two patients": Recipe(number=8, spoil=bad.mix_in_another_patient),
    "two birth dates": Recipe(number=9, spoil=bad.mix_in_another_birth_date),
    "other content": Recipe(number=10, phases=ONE, spoil=bad.send_other_content_again),
    "other frame": Recipe(number=11, spoil=bad.move_off_the_table),
    "no liver": Recipe(number=12),
    "600 slices": Recipe(number=13, spoil=bad.scan_six_hundred_slices),
    "long names": Recipe(number=14, patient=LONG_PATIENT, spoil=lengthen_descriptions),
    "empty patient": Recipe(number=15, phases=ONE, spoil=bad.empty_the_patient_module),
    "enhanced CT": Recipe(number=16, spoil=bad.make_it_multi_frame),
    "other multi-frame": Recipe(number=17, spoil=bad.make_it_screenshots),
    "other birth date": Recipe(number=18, phases=ONE),
    "other sex": Recipe(number=19, phases=ONE),
    "faulty row": Recipe(number=20, phases=ONE),
    "follow-up": Recipe(number=21, phases=ONE),
    "outside population": Recipe(number=22, phases=ONE),
    "nobody asked": Recipe(number=23, phases=ONE),
}
ROWS = {
    "other birth date": {"birth_date": "1971-02-03"},
    "other sex": {"sex": "female"},
    "faulty row": {"ecog": "perhaps"},
    "follow-up": {"treatment_start": "2026-02-10"},
    "outside population": {"child_pugh": "C"},
}


@dataclass(frozen=True)
class Outcome:
    """What became of one study."""

    folder: Path
    deliveries: tuple[Delivery, ...]
    job: Job | None
    report: Report | None
    results: Path
    kept: tuple[Path, ...]


class House(WholeNode):
    """One node that took every study."""

    def __init__(self, folder):
        changes = {
            "clinical": {"table": str(write_table(folder / "clinical.csv"))},
            "models": {"allow_demonstration": True},
        }
        super().__init__(folder, changes)
        self.sent, self.outcomes, self.log = {}, {}, []

    def send(self, name, folder):
        self.sent[name] = folder, self.receive(folder.iterdir())

    def look(self):
        for name, (folder, deliveries) in self.sent.items():
            study = RECIPES[name].study.study_instance_uid
            job = next(iter(self.jobs.find(study_instance_uid=study)), None)
            results = self.data / RESULTS_NAME / str(job.job_id if job else 0)
            path = results / "report.json"
            self.outcomes[name] = Outcome(
                folder=folder,
                deliveries=deliveries,
                job=job,
                report=read_json(path.read_text()) if path.is_file() else None,
                results=results,
                kept=tuple(sorted(self.reception.inbox.study_folder(study).glob("*.dcm"))),
            )
        found = [pydicom.dcmread(path) for path in self.archive.paths()]
        self.at_archive = {one.SOPInstanceUID: one for one in found}

    def lines(self, name, event):
        """The lines of the log about a study."""
        study = RECIPES[name].study.study_instance_uid
        return [line for line in self.log if line["event"] == event and line.get("study") == study]


def write_table(path):
    """A clinical table with a row of the population for each patient, but for those of ROWS and one nobody asked for."""
    usual = {
        "patient_id": "",
        "birth_date": BIRTH_DATE.isoformat(),
        "sex": "male",
        "treatment_start": "2026-03-16",
        "bclc": "C",
        "child_pugh": "A",
        "ecog": "1",
    }
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(usual))
        writer.writeheader()
        for name, recipe in RECIPES.items():
            patient = recipe.patient or make_patient(recipe.number)
            if name not in ("nobody asked", "empty patient"):
                writer.writerow({**usual, "patient_id": patient.patient_id, **ROWS.get(name, {})})
    return path


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    node = House(folder)
    with capture_logs() as log:
        for name, recipe in RECIPES.items():
            node.send(name, write_study(folder / "scanner" / str(recipe.number), recipe))
        node.work()
    node.log = log
    node.look()
    yield node
    node.close()


def check_refused(house, name, code, *words):
    """One line, one report at the archive, no risk, every object that was answered with success is here."""
    outcome = house.outcomes[name]
    report = outcome.report
    assert (report.status, report.reason_code) == (Status.NOT_ASSESSABLE, code), report.reason
    assert report.risks == ()
    for word in words:
        assert word in report.reason
    (line,) = house.lines(name, "study assessed")
    assert line["reason_code"] == code
    assert line["reason"] == report.reason or code == ReasonCode.CLINICAL_ROW_INVALID
    assert outcome.job.state is JobState.DONE, outcome.job.error
    stored = [one for one in outcome.deliveries if one.answer is Answer.STORED]
    assert len(outcome.kept) == len(stored)
    assert verify_result(outcome.results) == ()
    document = pydicom.dcmread(outcome.results / "dicom" / "SR.dcm")
    assert house.at_archive[document.SOPInstanceUID] == document
    told = [str(item.TextValue) for item in walk_items(document) if "TextValue" in item]
    assert any(report.reason in text for text in told)


def walk_items(item):
    """A content item and all below it."""
    yield item
    for below in item.get("ContentSequence", ()):
        yield from walk_items(below)


def all_stored(outcome):
    return {one.answer for one in outcome.deliveries} == {Answer.STORED}


def label_of(name, phase):
    return RECIPES[name].plan(phase).series_instance_uid


def test_what_is_not_dicom_is_refused_with_a_line_and_the_association_goes_on(house, tmp_path):
    before, after = save_slices(
        (SyntheticSlice(study="2.25.77", instance=f"2.25.77.{n}", position_mm=2.0 * n) for n in (1, 3)),
        tmp_path,
    )
    noise = tmp_path / "2.25.77.2.dcm"
    shutil.copy(before, noise)
    content = noise.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    meta = content[:start].replace(b"2.25.77.1\0", b"2.25.77.2\0")
    noise.write_bytes(meta + b"this is no data set, however it came to have the head of a DICOM file")
    with capture_logs() as log:
        answers = send_objects([before, noise, after], house.reception.peer, SendSettings())
    assert [one.status for one in answers] == [0x0000, 0xC000, 0x0000]
    (line,) = [line for line in log if line["event"] == "object refused"]
    assert (line["instance"], line["status"]) == ("2.25.77.2", "0xC000")
    assert line["reason"]
    assert len(list(house.reception.inbox.study_folder("2.25.77").glob("*.dcm"))) == 2


def test_a_truncated_file_is_refused_by_name_and_its_series_is_short_of_it(house):
    outcome = house.outcomes["truncated file"]
    torn = [one for one in outcome.deliveries if one.answer is not Answer.STORED]
    assert [one.status for one in torn] == [0xC000]
    (line,) = house.lines("truncated file", "object refused")
    assert line["instance"] == torn[0].sop_instance_uid
    check_refused(
        house,
        "truncated file",
        ReasonCode.VOLUME_REFUSED,
        label_of("truncated file", Phase.ARTERIAL),
        "missing slices: 1",
    )


def test_a_codestream_that_ends_too_early_is_refused_by_name(house):
    assert all_stored(house.outcomes["cut codestream"])
    check_refused(house, "cut codestream", ReasonCode.VOLUME_REFUSED, "shows ARTERIAL", "cut short")


def test_another_modality_is_kept_and_opens_no_job_and_the_line_says_so(house):
    outcome = house.outcomes["another modality"]
    assert all_stored(outcome)
    assert len(outcome.kept) == 3 * SLICES
    assert outcome.job is None
    (line,) = house.lines("another modality", "objects kept that open no job")
    assert (line["modality"], line["objects"], line["why"]) == ("MR", 3 * SLICES, "no CT images")


def test_a_missing_slice_is_told_with_its_place(house):
    check_refused(
        house,
        "missing slice",
        ReasonCode.VOLUME_REFUSED,
        label_of("missing slice", Phase.ARTERIAL),
        "missing slices: 1; 1 of 20 steps differ from 7.000 mm",
    )


def test_duplicate_positions_are_told_with_their_number(house):
    check_refused(
        house,
        "duplicate positions",
        ReasonCode.VOLUME_REFUSED,
        "duplicate positions: 23 images at 22 positions",
    )


def test_mixed_orientations_are_told(house):
    check_refused(
        house, "mixed orientations", ReasonCode.VOLUME_REFUSED, "mixed orientation", "2 orientations"
    )


def test_a_gantry_tilt_is_told_with_its_angle(house):
    check_refused(house, "gantry tilt", ReasonCode.VOLUME_REFUSED, "gantry tilt", "15.0 degrees")


def test_two_patients_under_one_study_uid_get_no_risk(house):
    check_refused(house, "two patients", ReasonCode.SEVERAL_PATIENTS, "2 different patient identifiers")


def test_a_row_that_was_not_looked_at_or_not_believed_is_not_called_missing(house):
    missing = {name: outcome.report.missing for name, outcome in house.outcomes.items() if outcome.report}
    assert not any("no row" in words for words in missing["two patients"])
    assert missing["other sex"] == ("clinical variables: the row of this patient is not believed",)
    assert missing["nobody asked"] == ("clinical variables: no row for this patient",)


def test_one_identifier_with_two_birth_dates_and_sexes_gets_no_risk(house):
    check_refused(
        house, "two birth dates", ReasonCode.SEVERAL_PATIENTS, "2 different birth dates, 2 different sexes"
    )


def test_one_uid_with_two_contents_is_kept_twice_flagged_and_gets_no_risk(house):
    outcome = house.outcomes["other content"]
    assert len(outcome.kept) == SLICES + 1
    study = RECIPES["other content"].study.study_instance_uid
    flagged = [one for one in house.reception.inbox.arrivals(study) if one.conflict]
    (uid,) = {one.identity.sop_instance_uid for one in flagged}
    assert len(flagged) == 2
    (line,) = house.lines("other content", "an object came again with other content; both are kept")
    assert line["instance"] == uid
    check_refused(house, "other content", ReasonCode.CONFLICTING_INSTANCES, uid)


def test_a_phase_in_another_frame_of_reference_is_told(house):
    check_refused(
        house,
        "other frame",
        ReasonCode.FRAME_OF_REFERENCE_DIFFERS,
        f"series {label_of('other frame', Phase.DELAYED)} shows DELAYED",
    )


def test_a_study_without_a_liver_gets_no_risk(house):
    check_refused(house, "no liver", ReasonCode.NO_LIVER)
    assert {one.phase for one in house.outcomes["no liver"].report.phases if one.used} == set(ASSESSED_PHASES)


def test_a_phase_of_600_slices_is_read_whole(house):
    outcome = house.outcomes["600 slices"]
    assert len(outcome.kept) == 600 + 2 * SLICES
    used = {one.phase: one.slices for one in outcome.report.phases if one.used}
    assert used == {Phase.ARTERIAL: SLICES, Phase.PORTAL_VENOUS: 600, Phase.DELAYED: SLICES}
    check_refused(house, "600 slices", ReasonCode.NO_LIVER)


def test_names_of_64_characters_arrive_unharmed(house):
    check_refused(house, "long names", ReasonCode.VOLUME_REFUSED, "missing slices: 1")
    outcome = house.outcomes["long names"]
    source = pydicom.dcmread(files_of(outcome.folder, Phase.ARTERIAL)[0])
    assert [
        len(str(source[key].value)) for key in ("PatientID", "IssuerOfPatientID", "StudyDescription")
    ] == [64] * 3
    for entry in outcome.report.objects:
        made = pydicom.dcmread(outcome.results / entry.path)
        for keyword in ("PatientName", "PatientID", "IssuerOfPatientID", "StudyDescription"):
            assert str(made[keyword].value) == str(source[keyword].value), (entry.kind, keyword)
    assert {len(one.series_description) for one in outcome.report.phases} == {64}


def test_an_empty_patient_module_gets_a_report_without_inventing_a_patient(house):
    check_refused(house, "empty patient", ReasonCode.NOT_REQUESTED, "no clinical row names this patient")
    for entry in house.outcomes["empty patient"].report.objects:
        made = pydicom.dcmread(house.outcomes["empty patient"].results / entry.path)
        assert [str(made[key].value) for key in ("PatientName", "PatientID", "PatientSex")] == ["", "", ""]


def test_enhanced_multi_frame_ct_is_read_frame_by_frame(house):
    outcome = house.outcomes["enhanced CT"]
    assert len(outcome.kept) == 3
    used = {one.phase: one.slices for one in outcome.report.phases if one.used}
    assert used == dict.fromkeys(ASSESSED_PHASES, SLICES)
    check_refused(house, "enhanced CT", ReasonCode.NO_LIVER)
    cases = house.data / CASES_NAME
    single, frames = (
        (cases / str(house.outcomes[name].job.job_id) / "volumes" / "DELAYED.nrrd").read_bytes()
        for name in ("no liver", "enhanced CT")
    )
    assert single == frames


def test_a_multi_frame_of_another_kind_is_kept_and_opens_no_job(house):
    outcome = house.outcomes["other multi-frame"]
    assert (len(outcome.kept), outcome.job) == (3, None)
    (line,) = house.lines("other multi-frame", "objects kept that open no job")
    assert (line["modality"], line["objects"]) == ("CT", 3)


@pytest.mark.parametrize(
    ("name", "word"),
    [("other birth date", "another birth date"), ("other sex", "says female, the DICOM study says male")],
)
def test_the_clinical_row_of_another_patient_gives_no_risk(house, name, word):
    check_refused(house, name, ReasonCode.CLINICAL_ROW_CONTRADICTS, word)


def test_a_faulty_row_refuses_its_own_patient_and_nobody_else(house):
    check_refused(house, "faulty row", ReasonCode.CLINICAL_ROW_INVALID, "column ecog", "'perhaps'")
    told = [line for line in house.log if "rows of the clinical table have faults" in line["event"]]
    assert told
    assert not any("perhaps" in str(line) for line in house.log)
    assert house.outcomes["missing slice"].report.reason_code == ReasonCode.VOLUME_REFUSED


def test_a_follow_up_scan_gets_no_risk(house):
    check_refused(
        house,
        "follow-up",
        ReasonCode.AFTER_TREATMENT_START,
        "20 days after the treatment start of 2026-02-10",
    )


def test_a_patient_outside_the_population_gets_no_risk(house):
    check_refused(house, "outside population", ReasonCode.OUTSIDE_POPULATION, "Child-Pugh class C")


def test_a_study_that_nobody_asked_for_gets_no_risk(house):
    check_refused(house, "nobody asked", ReasonCode.NOT_REQUESTED, "on request only")


def test_no_line_of_the_log_names_a_patient(house):
    names = re.compile("Synthetic\\^|Else\\^|漢|BAD-0|PPPP")
    assert [line for line in house.log if names.search(str(line))] == []


def test_nothing_is_lost_and_the_node_is_alive_after_all_of_them(house, tmp_path):
    assert all(one.job is None or one.job.state is JobState.DONE for one in house.outcomes.values())
    assert not list((house.reception.inbox.folder / "incoming").iterdir())
    assert echo_peer(house.reception.peer, SendSettings()) == 0
    (path,) = save_slices([SyntheticSlice(study="2.25.78", instance="2.25.78.1")], tmp_path)
    (answer,) = send_objects([path], house.reception.peer, SendSettings())
    assert answer.answer is Answer.STORED


def test_results_that_come_back_open_no_job(house):
    results = house.archive.paths()
    send_objects(results, house.reception.peer, SendSettings())
    with capture_logs() as log:
        house.work()
    for name, outcome in house.outcomes.items():
        found = house.jobs.find(study_instance_uid=RECIPES[name].study.study_instance_uid)
        assert found == (() if outcome.job is None else (outcome.job,))
    told = [line for line in log if line["event"] == "objects kept that open no job"]
    assert {line["why"] for line in told} == {"our own results came back"}
    assert sum(line["objects"] for line in told) == len(results) == 3 * 21
