"""When a study is complete: never too early, whatever the order; soon, when the evidence is strong."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.arrival import OpenStudy, Pass
from node.completeness import (
    CompletenessRules,
    Evidence,
    StudyTraffic,
    Traffic,
    describe_missing,
    find_gap,
    judge_completeness,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RULES = CompletenessRules(release_seconds=1, quiet_seconds=10, settle_seconds=120)


def make_pass(number: int, images: int = 30, *, missing: int | None = None) -> Pass:
    positions = tuple(2.5 * index for index in range(images) if index != missing)
    return Pass(
        series_instance_uid=f"1.{number}", acquisition="1", images=len(positions), positions_mm=positions
    )


def make_study(*passes: Pass) -> OpenStudy:
    return OpenStudy(
        study_instance_uid="1", images=sum(one.images for one in passes), passes=passes, last_received_at=NOW
    )


WHOLE = make_study(make_pass(1), make_pass(2), make_pass(3))
RELEASED = StudyTraffic(released=True, last_activity_at=NOW)


@pytest.mark.parametrize(
    ("study", "traffic", "seconds", "evidence"),
    [
        (WHOLE, RELEASED, 0.9, None),
        (WHOLE, RELEASED, 1.0, Evidence.RELEASED),
        (WHOLE, StudyTraffic(), 9.9, None),
        (WHOLE, StudyTraffic(), 10.0, Evidence.QUIET),
        (WHOLE, StudyTraffic(in_transfer=True), 9999.0, None),
        (WHOLE, StudyTraffic(released=True, open_associations=1), 9.9, None),
        (WHOLE, StudyTraffic(released=True, longest_pause_seconds=15), 29.0, None),
        (WHOLE, StudyTraffic(released=True, longest_pause_seconds=15), 30.0, Evidence.RELEASED),
        (make_study(make_pass(1), make_pass(2)), RELEASED, 129.0, None),
        (make_study(make_pass(1), make_pass(2)), RELEASED, 130.0, Evidence.SETTLED),
        (make_study(make_pass(1), make_pass(2), make_pass(3, missing=7)), RELEASED, 129.0, None),
        (make_study(make_pass(1), make_pass(2), make_pass(3, 19)), RELEASED, 129.0, None),
    ],
)
def test_evidence_decides_how_long_to_wait(study, traffic, seconds, evidence):
    verdict = judge_completeness(study, traffic, NOW + timedelta(seconds=seconds), RULES)
    assert verdict.evidence is evidence, verdict.why


def test_passes_stacked_in_one_series_are_counted():
    stacked = Pass(
        series_instance_uid="1.1",
        acquisition="",
        images=90,
        positions_mm=tuple(float(index) for index in range(30)),
    )
    assert describe_missing((stacked,), 3) == ""
    assert "2 passes" in describe_missing((make_pass(1), make_pass(2)), 3)


@given(st.integers(3, 60), st.data())
@settings(derandomize=True, deadline=None, max_examples=30)
def test_a_single_missing_slice_is_always_found(slices, data):
    missing = data.draw(st.integers(1, slices - 2))
    positions = tuple(1.25 * index for index in range(slices) if index != missing)
    gap = find_gap(positions)
    if len(positions) >= 4:
        assert gap == pytest.approx((1.25 * (missing - 1), 1.25 * (missing + 1)))


def count_premature_starts(seed: int) -> tuple[int, int]:
    """Plays two studies from random senders, interleaved, and judges all the time.

    Each sender opens one to four associations for its study, pauses between them for at most twice its longest pause
    so far (the first pause stays below the release time); its objects follow each other within the release time, and
    each takes up to 30 s.

    Returns:
        How many studies were found complete before their last object, and how many in time after it.
    """
    random = Random(seed)
    events = []
    for study in ("A", "B"):
        moment, longest = random.uniform(0, 3), 0.0
        for association in range(random.randint(1, 4)):
            if association:
                pause = random.uniform(0, 2 * longest if longest else 0.9)
                moment, longest = moment + pause, max(longest, pause)
            name = len(events) + 1
            for number in range(random.randint(1, 5)):
                begin = moment + (random.uniform(0, 0.9) if number else 0.0)
                moment = begin + random.uniform(0, 30)
                events += [(begin, "begin", name, study), (moment, "end", name, study)]
            moment += random.uniform(0, 0.05)
            events.append((moment, "close", name, study))
    events.sort(key=lambda event: event[0])
    last = {
        study: max(time for time, kind, _, of in events if kind == "end" and of == study) for study in "AB"
    }
    traffic, received, premature, in_time = Traffic(), {}, 0, 0
    for index, (time, kind, name, study) in enumerate(events):
        now = NOW + timedelta(seconds=time)
        if kind == "begin":
            traffic.object_begins(name, now)
            traffic.study_known(name, study, now)
        elif kind == "end":
            traffic.object_ends(name, now)
            received[study] = now
        else:
            traffic.association_ends(name, released=True, now=now)
        following = events[index + 1][0] if index + 1 < len(events) else time
        for other, arrived_at in received.items():
            if following <= last[other]:
                seen = OpenStudy(
                    study_instance_uid=other, images=9, passes=WHOLE.passes, last_received_at=arrived_at
                )
                before_next = NOW + timedelta(seconds=following - 1e-6)
                premature += (
                    judge_completeness(seen, traffic.of_study(other), before_next, RULES).evidence is not None
                )
    for study, arrived_at in received.items():
        seen = OpenStudy(study_instance_uid=study, images=9, passes=WHOLE.passes, last_received_at=arrived_at)
        end = NOW + timedelta(seconds=events[-1][0] + RULES.quiet_seconds + RULES.settle_seconds)
        in_time += judge_completeness(seen, traffic.of_study(study), end, RULES).evidence is not None
    return premature, in_time


def test_no_study_starts_before_its_last_object_in_150_shuffles_and_each_starts_in_the_end():
    outcomes = [count_premature_starts(seed) for seed in range(150)]
    assert sum(premature for premature, _ in outcomes) == 0
    assert all(in_time == 2 for _, in_time in outcomes)


@pytest.mark.slow
def test_no_study_starts_before_its_last_object_in_10000_shuffles():
    assert sum(count_premature_starts(seed)[0] for seed in range(10_000)) == 0


def test_a_sender_that_opens_one_association_a_series_is_waited_for():
    traffic = Traffic()
    now = NOW
    for association in (1, 2):
        traffic.object_begins(association, now)
        traffic.study_known(association, "A", now)
        traffic.object_ends(association, now)
        traffic.association_ends(association, released=True, now=now)
        now += timedelta(seconds=8)
    assert traffic.of_study("A").longest_pause_seconds == 8
    assert traffic.of_study("A").released


def test_an_association_that_moves_on_gives_no_release_for_the_study_it_left():
    traffic = Traffic()
    for study in ("A", "B"):
        traffic.object_begins(1, NOW)
        traffic.study_known(1, study, NOW)
        traffic.object_ends(1, NOW)
    traffic.association_ends(1, released=True, now=NOW)
    assert not traffic.of_study("A").released
    assert traffic.of_study("B").released


def test_an_aborted_association_is_no_evidence():
    traffic = Traffic()
    traffic.object_begins(1, NOW)
    traffic.study_known(1, "A", NOW)
    assert traffic.of_study("A").in_transfer
    traffic.association_ends(1, released=False, now=NOW)
    assert traffic.of_study("A") == StudyTraffic(last_activity_at=NOW)


def test_idle_studies_are_forgotten_and_active_ones_are_not():
    traffic = Traffic()
    traffic.study_known(1, "A", NOW)
    traffic.study_known(2, "B", NOW)
    traffic.association_ends(1, released=True, now=NOW)
    traffic.forget_idle(NOW + timedelta(days=1))
    assert traffic.of_study("A") == StudyTraffic()
    assert traffic.of_study("B").open_associations == 1
