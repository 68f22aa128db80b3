"""A study that has its result: a late phase makes a new one, a late reconstruction makes none, an operator's retry does."""

from datetime import timedelta

import pydicom
import pytest

from engines.phantom.anatomy import abdomen_grid, draw_anatomy, render_phase
from engines.phantom.cohort import draw_cohort
from engines.phase import ASSESSED_PHASES, Phase
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.job import JobState
from node.report.json_form import read_json
from node.report.record import ReasonCode, Status
from tests.bad_studies import INJECTED_AT, SECONDS_AFTER_INJECTION, make_patient
from tests.whole_node import WholeNode

pytestmark = pytest.mark.timeout(1800)  # one assessment from end to end is the set-up of the first test


class Growing:
    """What the node and its archive held after each arrival."""

    def __init__(self, node, folder):
        self.node, self.folder = node, folder
        self.study = StudyPlan(
            seed="a growing study", study_at=INJECTED_AT - timedelta(minutes=10), patient=make_patient(1)
        )
        anatomy = draw_anatomy(draw_cohort(1, 5)[0].traits)
        grid = abdomen_grid(pixel_mm=5.0, slice_mm=5.0, columns=76, slices=44)
        self.volumes = {phase: render_phase(anatomy, phase, grid) for phase in ASSESSED_PHASES}
        self.jobs, self.stored, self.reports, self.documents = {}, {}, {}, {}

    def arrive(self, name, *series):
        """Sends series, works, and keeps what came of it."""
        for phase, late in series:
            number = 3 + list(Phase).index(phase)
            plan = SeriesPlan(
                study=self.study,
                series_number=number + 100 * late,
                acquisition_number=number,
                acquired_at=INJECTED_AT + timedelta(seconds=SECONDS_AFTER_INJECTION[phase]),
                series_description=f"SYNTHETIC liver {phase.value.lower().replace('_', ' ')}",
                bolus_start_at=INJECTED_AT,
                reconstructed_after_seconds=20.0 + 600.0 * late,
            )
            self.node.receive(write_series(self.volumes[phase], plan, self.folder / name))
        self.node.work()
        self.keep(name, self.node.jobs.find()[0].job_id)

    def repeat(self, name, earlier):
        """Has the job of an earlier arrival taken up again, as an operator does, works, and keeps what came of it."""
        job_id = self.jobs[earlier].job_id
        self.node.jobs.retry(job_id, self.node.clock.now())
        self.node.work()
        self.keep(name, job_id)

    def keep(self, name, job_id):
        """Keeps job, report and document as they are now: a repeated job writes over its own."""
        job = self.jobs[name] = self.node.jobs.get(job_id)
        self.stored[name] = {path.name for path in self.node.archive.paths()}
        results = self.node.results_of(job)
        if (results / "report.json").exists():
            self.reports[name] = read_json((results / "report.json").read_text())
            self.documents[name] = pydicom.dcmread(results / "dicom" / "SR.dcm")

    def predecessor(self, name):
        """Series and SOP Instance UID of the one document that a result names as its predecessor."""
        (series,) = self.documents[name].PredecessorDocumentsSequence[0].ReferencedSeriesSequence
        return series.SeriesInstanceUID, series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID

    def place(self, name):
        """The same of the document itself."""
        return self.documents[name].SeriesInstanceUID, self.documents[name].SOPInstanceUID


@pytest.fixture(scope="module")
def growing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("growing")
    table = folder / "clinical.csv"
    table.write_text("patient_id,ecog\n")
    changes = {
        "models": {"allow_demonstration": True},
        "assessment": {"requested_by": "any", "radiomics": False},
        "clinical": {"table": str(table)},
    }
    node = WholeNode(folder, changes)
    study = Growing(node, folder / "scanner")
    study.arrive("two phases", (Phase.ARTERIAL, 0), (Phase.PORTAL_VENOUS, 0))
    study.arrive("late phase", (Phase.DELAYED, 0))
    study.arrive("late reconstruction", (Phase.PORTAL_VENOUS, 1))
    study.arrive("another one", (Phase.ARTERIAL, 1))
    study.repeat("repeated", "late phase")
    table.write_text(f"patient_id,ecog\n{study.study.patient.patient_id},1\n")
    study.repeat("corrected row", "another one")
    yield study
    node.close()


def test_a_study_of_two_phases_is_refused_first(growing):
    report = growing.reports["two phases"]
    assert (report.status, report.reason_code) == (Status.NOT_ASSESSABLE, ReasonCode.MISSING_PHASE)
    assert growing.jobs["two phases"].state is JobState.DONE


def test_a_late_phase_runs_the_study_again_and_the_result_names_its_predecessor(growing):
    report, job = growing.reports["late phase"], growing.jobs["late phase"]
    assert report.status is Status.ASSESSED, report.reason
    assert {entry.phase for entry in report.phases if entry.used} == set(ASSESSED_PHASES)
    assert (job.state, job.supersedes) == (JobState.DONE, growing.jobs["two phases"].job_id)
    assert growing.predecessor("late phase") == growing.place("two phases")
    assert any(flag.endswith("UTC: the study has changed since") for flag in report.flags)
    assert growing.stored["two phases"] < growing.stored["late phase"]


@pytest.mark.parametrize("name", ["late reconstruction", "another one"])
def test_a_late_reconstruction_of_a_used_pass_supersedes_nothing(growing, name):
    job = growing.jobs[name]
    assert job.job_id > growing.jobs["late phase"].job_id
    assert (job.state, job.outcome) == (JobState.DONE, "unchanged")
    assert any("the earlier one stands" in move.detail for move in growing.node.jobs.history(job.job_id))
    assert name not in growing.reports
    assert growing.stored[name] == growing.stored["late phase"]


def test_a_repeated_assessment_names_its_own_first_document_and_says_that_it_was_repeated(growing):
    assert growing.jobs["repeated"].job_id == growing.jobs["late phase"].job_id
    assert growing.predecessor("repeated") == growing.place("late phase")
    assert growing.place("repeated")[1] != growing.place("late phase")[1]
    flags = [flag for flag in growing.reports["repeated"].flags if "this result replaces" in flag]
    assert [flag.partition("UTC: ")[2] for flag in flags] == [
        "the assessment was repeated on an operator's word"
    ]
    assert growing.stored["late phase"] < growing.stored["repeated"]


def test_an_operator_who_corrects_the_clinical_row_gets_another_result_of_a_job_that_changed_nothing(growing):
    job, before = growing.jobs["corrected row"], growing.reports["repeated"]
    assert growing.jobs["another one"].outcome == "unchanged"
    assert (job.state, job.outcome) == (JobState.DONE, "assessed")
    assert before.clinical == ()
    ecog = [entry.value for entry in growing.reports["corrected row"].clinical if "ECOG" in entry.name]
    assert ecog == ["1"]
    assert growing.predecessor("corrected row") == growing.place("repeated")
    assert growing.stored["repeated"] < growing.stored["corrected row"]
