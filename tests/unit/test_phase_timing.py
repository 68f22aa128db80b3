"""Times are used where they can be believed, and only there."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from engines.phase import Phase
from node.phases.rules import STATES, load_rules
from node.phases.timing import gap_likelihood, injection_likelihood, read_times
from node.study import CT_IMAGE_STORAGE, Acquisition, Instance

RULES = load_rules()
T0 = datetime(2024, 5, 17, 9, 0, 30)


def acquisition(start: datetime | None, number: int = 1, **fields) -> Acquisition:
    instance = Instance(
        path=Path("x"),
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid=f"1.{number}",
        study_instance_uid="STUDY",
        series_instance_uid=f"S{number}",
        acquisition_number=number,
        acquired_at=start,
        **fields,
    )
    return Acquisition(series_instance_uid=f"S{number}", part=0, instances=(instance,))


def test_seconds_after_injection_are_start_less_bolus():
    (found,) = read_times([acquisition(T0 + timedelta(seconds=70), bolus_start_at=T0)], RULES.injection)
    assert found.seconds_after_injection == 70


@pytest.mark.parametrize(
    ("bolus", "fields", "doubt"),
    [
        (datetime(2024, 5, 17), {}, "midnight"),
        (T0, {"study_at": T0}, "equals study or series time"),
        (T0 + timedelta(seconds=69), {}, "time of the pass itself"),
        (T0 - timedelta(hours=4), {}, "not plausible"),
    ],
)
def test_bolus_times_that_cannot_be_are_not_believed(bolus, fields, doubt):
    (found,) = read_times(
        [acquisition(T0 + timedelta(seconds=70), bolus_start_at=bolus, **fields)], RULES.injection
    )
    assert found.seconds_after_injection is None
    assert doubt in found.doubts[0]


def test_bolus_before_midnight_and_scan_after_it():
    start = datetime(2024, 5, 18, 0, 0, 40)
    (found,) = read_times(
        [acquisition(start, bolus_start_at=datetime(2024, 5, 18, 23, 59, 30))], RULES.injection
    )
    assert found.seconds_after_injection == 70


def test_study_over_midnight_on_one_date_keeps_its_order():
    late, early = datetime(2024, 5, 17, 23, 59, 40), datetime(2024, 5, 17, 0, 0, 15)
    first, second = read_times([acquisition(late, 1), acquisition(early, 2)], RULES.injection)
    assert first.start is not None
    assert second.start is not None
    assert (second.start - first.start).total_seconds() == 35


def test_one_time_for_passes_of_different_numbers_is_not_believed():
    found = read_times([acquisition(T0, 1), acquisition(T0, 2), acquisition(T0, 3)], RULES.injection)
    assert [item.start for item in found] == [None] * 3
    assert "same for all" in found[0].doubts[0]


def test_midnight_to_the_second_is_no_time():
    (found,) = read_times([acquisition(datetime(2024, 5, 17))], RULES.injection)
    assert found.start is None


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (-300, Phase.PRE_CONTRAST),
        (20, Phase.ARTERIAL),
        (35, Phase.ARTERIAL),
        (70, Phase.PORTAL_VENOUS),
        (180, Phase.DELAYED),
        (900, Phase.DELAYED),
    ],
)
def test_seconds_after_injection_fit_their_phase_best(seconds, state):
    likelihood = injection_likelihood(seconds, RULES.injection)
    assert STATES[max(range(5), key=likelihood.__getitem__)] == state.value


def test_unknown_gap_says_nothing_and_known_gaps_fit_their_step():
    gap = RULES.sequence.gap
    assert gap_likelihood(None, "ARTERIAL", "DELAYED", gap) == 1.0
    assert gap_likelihood(35, "ARTERIAL", "PORTAL_VENOUS", gap) > 20 * gap_likelihood(
        35, "PORTAL_VENOUS", "DELAYED", gap
    )
