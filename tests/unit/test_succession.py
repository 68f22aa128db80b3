"""Whether an earlier result stands: the same images of the same passes, the same clinical row, the same model, no repeat."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engines.phase import ASSESSED_PHASES
from node.phases.plan import PhasePlan
from node.report.record import (
    ClinicalEntry,
    ModelEntry,
    NotAssessable,
    PhaseEntry,
    ReasonCode,
    Report,
    Status,
)
from node.study import CT_IMAGE_STORAGE, Acquisition, Instance
from node.succession import EarlierResult, says_the_same, stands, tell_replacement

SLICES = 4
ROW = (ClinicalEntry(name="Child-Pugh class", value="A"),)
MODEL = (ModelEntry(name="demo", version="1", sha256="0" * 64),)


def acquire(part, *, images=None, series="1.2.3"):
    """One pass of a series that holds several of equal length; ``images`` names its pass where the part does not."""
    images = part if images is None else images
    return Acquisition(
        series_instance_uid=series,
        part=part,
        instances=tuple(
            Instance(
                path=Path("none"),
                sop_class_uid=CT_IMAGE_STORAGE,
                sop_instance_uid=f"{series}.{images}.{number}",
                study_instance_uid="1.2",
                series_instance_uid=series,
            )
            for number in range(SLICES)
        ),
    )


def plan_of(*acquisitions):
    chosen = dict(zip(ASSESSED_PHASES, acquisitions, strict=True))
    return PhasePlan(findings=(), chosen=chosen, missing=(), passes=tuple((one,) for one in acquisitions))


@pytest.fixture
def earlier():
    """A risk that was given on the parts 1, 2 and 3 of one series."""
    used = {phase: acquire(number) for number, phase in enumerate(ASSESSED_PHASES, start=1)}
    report = Report(
        study_instance_uid="1.2",
        status=Status.ASSESSED,
        concluded_at=datetime(2026, 3, 2, 12, 0, tzinfo=UTC),
        phases=tuple(
            PhaseEntry(
                phase=phase,
                series_instance_uid=one.series_instance_uid,
                part=one.part,
                series_number=1,
                series_description="",
                slices=SLICES,
                seconds_after_injection=None,
                probability=0.9,
                used=True,
                reasons=(),
            )
            for phase, one in used.items()
        ),
        clinical=ROW,
        models=MODEL,
    )
    images = frozenset(image.sop_instance_uid for one in used.values() for image in one.instances)
    return EarlierResult(report=report, document=("1.9", "1.8"), images=images)


SAME = plan_of(acquire(1), acquire(2), acquire(3))


def test_a_result_stands_when_nothing_that_it_rests_on_has_changed(earlier):
    assert stands(earlier, SAME, ROW, MODEL)


def test_a_late_reconstruction_of_the_passes_changes_nothing(earlier):
    other = tuple(acquire(0, series=f"1.2.{number}") for number in (4, 5, 6))
    plan = PhasePlan(
        findings=(),
        chosen=dict(zip(ASSESSED_PHASES, other, strict=True)),
        missing=(),
        passes=tuple((late, acquire(part)) for part, late in enumerate(other, start=1)),
    )
    assert stands(earlier, plan, ROW, MODEL)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(plan_of(acquire(2), acquire(3), acquire(4)), id="the next three parts of equal length"),
        pytest.param(plan_of(acquire(2), acquire(1), acquire(3)), id="the same parts as other phases"),
        pytest.param(
            plan_of(acquire(1, images=9), acquire(2), acquire(3)), id="other images under the same part"
        ),
    ],
)
def test_other_images_of_the_same_series_make_another_result(earlier, plan):
    assert not stands(earlier, plan, ROW, MODEL)


@pytest.mark.parametrize(
    "row", [(), (ClinicalEntry(name="Child-Pugh class", value="B"),)], ids=["removed", "corrected"]
)
def test_a_clinical_row_that_was_changed_makes_another_result(earlier, row):
    assert not stands(earlier, SAME, row, MODEL)


def test_another_model_in_service_makes_another_result(earlier):
    assert not stands(earlier, SAME, ROW, (replace(MODEL[0], sha256="1" * 64),))


def test_nothing_stands_when_an_operator_has_the_assessment_repeated(earlier):
    refusal = NotAssessable(code=ReasonCode.MISSING_PHASE, reason="no delayed phase")
    report = replace(
        earlier.report, status=Status.NOT_ASSESSABLE, reason_code=refusal.code, reason=refusal.reason
    )
    refused = replace(earlier, report=report)
    assert says_the_same(refused, refusal)
    assert not says_the_same(replace(refused, repeated=True), refusal)
    assert not stands(replace(earlier, repeated=True), SAME, ROW, MODEL)


def test_the_new_result_says_why_it_replaces_the_earlier_one(earlier):
    failed = replace(earlier, report=replace(earlier.report, status=Status.FAILED), repeated=True)
    assert tell_replacement(earlier).endswith("12:00 UTC: the study has changed since")
    assert tell_replacement(replace(earlier, repeated=True)).endswith(
        "the assessment was repeated on an operator's word"
    )
    assert tell_replacement(failed).endswith("that attempt failed")
