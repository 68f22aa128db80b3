"""The landmark subset of mRECIST: who is in it, where time starts, and what all models reach there, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from engines.acquisition import CtProtocol
from engines.clinical.examinations import FirstResponse
from engines.clinical.response import Response
from engines.clinical.treatment import Treatment
from engines.survival.bootstrap import draw_resamples
from train.errors import FitRefused
from train.evaluate.case_facts import CaseFacts, CohortFacts
from train.evaluate.document import RowKind, Table, Text
from train.evaluate.evidence import gather_responses
from train.evaluate.landmark import (
    TITLE,
    explain_records,
    landmark_table,
    leave_to_landmark,
    measure_from_landmark,
    start_at_landmark,
)
from train.evaluate.measures import Settings, measure_models
from train.evaluate.published import read_published
from train.evaluate.score_table import EndpointColumns, ScoreTable
from train.evaluate.tables import auc_table, c_index_table, comparison_table, risk_group_table
from train.fit_folder import FitFolder

NAN = np.nan
SETTINGS = Settings(repeats=100, seed=3)


def score_table(os, pfs, scores, background):
    """A table of one cohort, testing; ``os`` and ``pfs`` are pairs of months and events."""
    n = len(os[0])
    endpoints = tuple(
        EndpointColumns(name=name, time=np.array(time, float), event=np.array(event, bool))
        for name, (time, event) in (("OS", os), ("PFS", pfs))
    )
    return ScoreTable(
        name="hand",
        sha256="0" * 64,
        patient_ids=tuple(f"p{k}" for k in range(n)),
        cohort=np.full(n, "testing"),
        cohorts=("testing",),
        cutoff_cohort="testing",
        endpoints=endpoints,
        scores={
            model: {"OS": np.array(values, float), "PFS": np.array(values, float)}
            for model, values in scores.items()
        },
        clinical={},
        groups={},
        notes=(),
        background={name: np.array(values, float) for name, values in background.items()},
    )


# patient            A     B     C     G     D: progression at its CT   E: CT not dated   F: not evaluable   H: no follow-up
FIRST_CT_MONTHS = [2.0, 3.0, 2.0, 5.5, 2.0, NAN, 4.0, 2.0]
NON_RESPONDER = [0.0, 1.0, 0.0, 0.0, 1.0, 1.0, NAN, 0.0]
PFS = ([5.0, 4.0, 8.0, 7.0, 2.0, 6.0, 9.0, NAN], [1, 1, 0, 1, 1, 1, 1, 0])
OS = ([10.0, 6.0, 20.0, 12.0, 9.0, 9.0, 11.0, NAN], [1, 1, 0, 0, 1, 1, 1, 0])
MMF = [3.0, 4.0, 1.0, 2.0, 9.0, 0.0, 9.0, 5.0]
HAND = score_table(
    OS,
    PFS,
    {"mRECIST": NON_RESPONDER, "mRECIST (no landmark)": NON_RESPONDER, "MMF": MMF},
    {"non_responder": NON_RESPONDER, "first_ct_months": FIRST_CT_MONTHS},
)


def test_the_subset_and_the_shift_of_time_zero_are_those_worked_by_hand():
    os, pfs = start_at_landmark(HAND).endpoints
    np.testing.assert_array_equal(pfs.time, [3.0, 1.0, 6.0, 1.5, NAN, NAN, NAN, NAN])
    np.testing.assert_array_equal(pfs.event, [1, 1, 0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(os.time, [8.0, 3.0, 18.0, 6.5, NAN, NAN, NAN, NAN])
    np.testing.assert_array_equal(os.event, [1, 1, 0, 0, 0, 0, 0, 0])


def test_who_has_pd_at_the_ct_is_not_in_the_subset_however_the_months_are_rounded():
    columns = {
        "non_responder": [0.0, 1.0, 1.0],
        "first_ct_months": [2.0, 2.0, 2.0],
        "progressive": [0.0, 1.0, 0.0],
    }
    table = score_table(
        ([9.0, 9.0, 9.0], [0, 1, 0]), ([3.0, 2.1, 3.0], [1, 1, 0]), {"MMF": [1, 2, 3]}, columns
    )
    _, pfs = start_at_landmark(table).endpoints
    np.testing.assert_array_equal(pfs.time, [1.0, NAN, 1.0])


def test_a_patient_last_seen_at_the_ct_or_with_os_that_ends_before_it_has_no_follow_up_there():
    columns = {"non_responder": [0.0, 1.0, 0.0], "first_ct_months": [2.0, 2.0, 2.0]}
    table = score_table(
        ([9.0, 1.0, 9.0], [0, 1, 0]), ([2.0, 5.0, 3.0], [0, 1, 0]), {"MMF": [1, 2, 3]}, columns
    )
    os, pfs = start_at_landmark(table).endpoints
    np.testing.assert_array_equal(pfs.time, [NAN, 3.0, 1.0])
    np.testing.assert_array_equal(os.time, [NAN, NAN, 7.0])
    assert not os.event.any()


def test_every_model_is_measured_on_the_subset_with_time_from_the_landmark():
    records = measure_from_landmark(start_at_landmark(HAND), ("testing",), SETTINGS)
    found = {(r.endpoint, r.model): (r.n, r.events, r.c_index) for r in records}
    # PFS from the landmark: B 1, G 1.5, A 3, C 6 censored. MMF (4, 2, 3, 1) errs in G-A alone of six pairs; from the
    # first dose A (5) comes before G (7) and it errs in none. mRECIST (1, 0, 0, 0): B against three won, three tied.
    # OS: B 3, G 6.5 censored, A 8, C 18 censored. B against three, and A-C: MMF wins four of four; mRECIST ties A-C.
    assert found == {
        ("OS", "mRECIST"): (4, 2, 3.5 / 4),
        ("OS", "MMF"): (4, 2, 1.0),
        ("PFS", "mRECIST"): (4, 3, 4.5 / 6),
        ("PFS", "MMF"): (4, 3, 5 / 6),
    }


def test_the_interval_is_that_of_resampled_patients_as_scikit_survival_measures_them():
    random = np.random.default_rng(0)
    n = 40
    risk = random.normal(size=n)
    months, events = random.exponential(9 * np.exp(-0.5 * risk)) + 0.5, random.random(n) < 0.7
    first_ct = random.uniform(1.5, 3.0, n)
    table = score_table(
        (months, events),
        (months, events),
        {"MMF": risk + random.normal(size=n)},
        {"non_responder": random.integers(0, 2, n), "first_ct_months": first_ct},
    )
    record = measure_from_landmark(start_at_landmark(table), ("testing",), SETTINGS)[1]
    inside = np.flatnonzero(months > first_ct)
    assert 10 < record.n == inside.size < n
    values = []
    for counts in draw_resamples(inside.size, SETTINGS.repeats, SETTINGS.seed):
        drawn = np.repeat(inside, counts.astype(int))
        score = table.scores["MMF"]["PFS"][drawn]
        values.append(concordance_index_censored(events[drawn], (months - first_ct)[drawn], score)[0])
    np.testing.assert_allclose((record.low, record.high), np.quantile(values, (0.025, 0.975)), atol=1e-9)
    assert record.low < record.c_index < record.high


def test_the_table_says_who_is_left_out_and_gives_one_row_a_model_and_endpoint():
    table = landmark_table(HAND, ("testing",), SETTINGS, "note on intervals")
    assert isinstance(table, Table)
    first, *others = table.rows
    assert first.kind is RowKind.HEADING
    assert first.cells == (
        "testing: 4 of 7 patients; 1 had progressed, died or left by their first follow-up CT, 2 have no response with a"
        " date",
    )
    assert [row.cells[:4] for row in others] == [
        ("OS", "mRECIST", "4", "2"),
        ("OS", "MMF", "4", "2"),
        ("PFS", "mRECIST", "4", "3"),
        ("PFS", "MMF", "4", "3"),
    ]
    assert others[3].cells[4].startswith("0.833")
    assert table.notes[-1] == "note on intervals"


@pytest.mark.parametrize("lost", [{"non_responder"}, {"first_ct_months"}, {"PFS"}, {"everyone progressed"}])
def test_without_dated_responses_or_anyone_free_of_progression_a_sentence_says_so(lost):
    background = {name: values for name, values in HAND.background.items() if name not in lost}
    endpoints = tuple(endpoint for endpoint in HAND.endpoints if endpoint.name not in lost)
    if "everyone progressed" in lost:
        early = EndpointColumns(name="PFS", time=np.full(8, 1.0), event=np.ones(8, bool))
        endpoints = (endpoints[0], early)
    table = replace(HAND, background=background, endpoints=endpoints)
    found = landmark_table(table, ("testing",), SETTINGS, "")
    assert isinstance(found, Text)
    assert "not shown, no patient is known to have been free of progression" in found.lines[0]


def case(case_id, patient, response=None):
    return CaseFacts(
        case_id=case_id,
        patient=patient,
        cohort="c",
        labelled=True,
        protocol=CtProtocol(),
        treatment=Treatment(),
        liver_box_ml=None,
        mask_provider="",
        first_response=response,
    )


def facts(*cases):
    return CohortFacts(cases=cases, excluded={})


def test_responses_come_from_the_fit_and_of_other_cohorts_from_their_lesion_lists(tmp_path):
    paths = FitFolder(root=tmp_path)
    own = facts(case("case-1", "own-1"), case("case-2", "own-2"))
    external = facts(
        case("case-1", "away-1", FirstResponse(category=Response.PROGRESSIVE, months=1.5)),
        case("case-2", "away-2", FirstResponse(category=Response.NOT_EVALUABLE, months=2.0)),
        case("case-3", "away-3"),
    )
    assert gather_responses(paths, own, facts()) == {
        "non_responder": {},
        "progressive": {},
        "first_ct_months": {},
    }
    paths.response.write_text(
        "case_id,non_responder,progressive,months\ncase-1,0,0,2.5\ncase-2,1,1,\ncase-9,1,1,3\n"
    )
    assert gather_responses(paths, own, external) == {
        "non_responder": {"own-1": 0.0, "own-2": 1.0, "away-1": 1.0},
        "progressive": {"own-1": 0.0, "own-2": 1.0, "away-1": 1.0},
        "first_ct_months": {"own-1": 2.5, "away-1": 1.5},
    }
    paths.response.write_text("case_id,non_responder,months\ncase-1,0,soon\n")
    with pytest.raises(FitRefused, match="case case-1: could not convert string to float"):
        gather_responses(paths, own, external)


def test_no_other_table_measures_mrecist_from_the_first_dose():
    table = score_table(OS, PFS, {"mRECIST": NON_RESPONDER, "MMF": MMF}, {})
    records = explain_records(measure_models(leave_to_landmark(table), SETTINGS))
    found = {(r.endpoint, r.model): r for r in records}
    assert found["OS", "mRECIST"].c_index == next(
        r.c_index for r in measure_models(table, SETTINGS) if (r.endpoint, r.model) == ("OS", "mRECIST")
    )
    left = found["PFS", "mRECIST"]
    assert (left.c_index, left.uno_c, left.groups, left.comparisons) == (None, None, None, ())
    assert TITLE in left.reason
    published = read_published()
    for made in (
        auc_table(records, "PFS", "MMF", published, ""),
        c_index_table(records, ("testing",), str, published, ""),
        comparison_table(records, "PFS", "MMF", ""),
        risk_group_table(records, "PFS", "testing"),
    ):
        assert sum(TITLE in note for note in made.notes) == 1
        assert any("not estimable" in row.cells for row in made.rows if row.cells[0] == "mRECIST")
    assert not any(TITLE in note for note in comparison_table(records, "OS", "MMF", "").notes)
