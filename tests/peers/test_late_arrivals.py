"""A study that goes on growing after its result: a late phase makes a new one, a late reconstruction makes none."""

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

pytestmark = pytest.mark.timeout(600)  # one assessment from end to end is the set-up of the first test


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
        self.jobs, self.stored = {}, {}

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
        self.jobs[name] = self.node.jobs.find()[0]
        self.stored[name] = {path.name for path in self.node.archive.paths()}

    def report(self, name):
        return read_json((self.node.results_of(self.jobs[name]) / "report.json").read_text())

    def document(self, name):
        return pydicom.dcmread(self.node.results_of(self.jobs[name]) / "dicom" / "SR.dcm")


@pytest.fixture(scope="module")
def growing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("growing")
    changes = {
        "models": {"allow_demonstration": True},
        "assessment": {"requested_by": "any", "radiomics": False},
    }
    node = WholeNode(folder, changes)
    study = Growing(node, folder / "scanner")
    study.arrive("two phases", (Phase.ARTERIAL, 0), (Phase.PORTAL_VENOUS, 0))
    study.arrive("late phase", (Phase.DELAYED, 0))
    study.arrive("late reconstruction", (Phase.PORTAL_VENOUS, 1))
    study.arrive("another one", (Phase.ARTERIAL, 1))
    yield study
    node.close()


def test_a_study_of_two_phases_is_refused_first(growing):
    report = growing.report("two phases")
    assert (report.status, report.reason_code) == (Status.NOT_ASSESSABLE, ReasonCode.MISSING_PHASE)
    assert growing.jobs["two phases"].state is JobState.DONE


def test_a_late_phase_runs_the_study_again_and_the_result_names_its_predecessor(growing):
    report, job = growing.report("late phase"), growing.jobs["late phase"]
    assert report.status is Status.ASSESSED, report.reason
    assert {entry.phase for entry in report.phases if entry.used} == set(ASSESSED_PHASES)
    assert (job.state, job.supersedes) == (JobState.DONE, growing.jobs["two phases"].job_id)
    first = growing.document("two phases")
    (series,) = growing.document("late phase").PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert any("this result replaces the one of" in flag for flag in report.flags)
    assert growing.stored["two phases"] < growing.stored["late phase"]


@pytest.mark.parametrize("name", ["late reconstruction", "another one"])
def test_a_late_reconstruction_of_a_used_pass_supersedes_nothing(growing, name):
    job = growing.jobs[name]
    assert job.job_id > growing.jobs["late phase"].job_id
    assert (job.state, job.outcome) == (JobState.DONE, "unchanged")
    assert "the earlier one stands" in growing.node.jobs.history(job.job_id)[-1].detail
    assert not (growing.node.results_of(job) / "report.json").exists()
    assert growing.stored[name] == growing.stored["late phase"]
