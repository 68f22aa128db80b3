"""mRECIST as a model: the landmark that PFS needs, and answers from which nothing can be learned."""

import numpy as np
import pytest

from engines.clinical.examinations import FirstResponse
from engines.clinical.response import Response
from engines.errors import InvalidInput
from engines.survival.cox import fit_cox
from engines.survival.outcome import Outcome
from train.response_model import Responses, collect_responses, fit_response, score_responses

CATEGORIES = [Response.PARTIAL, Response.STABLE, Response.PROGRESSIVE, Response.COMPLETE, Response.STABLE] * 6
MONTHS = 2.0 + np.arange(30) % 3 * 0.5
RESPONSES = collect_responses(
    [FirstResponse(category=one, months=float(month)) for one, month in zip(CATEGORIES, MONTHS, strict=True)]
)
TIME = np.random.default_rng(1).exponential(8.0, 30) + 0.1
PFS = Outcome(TIME, np.arange(30) % 4 > 0)


def test_responders_are_complete_and_partial_and_what_is_not_evaluable_is_missing():
    assert RESPONSES.non_responder[:5].tolist() == [0, 1, 1, 0, 1]
    found = collect_responses([None, FirstResponse(category=Response.NOT_EVALUABLE, months=None)])
    assert np.isnan(found.non_responder).all()
    assert np.isnan(found.months).all()


def test_the_landmark_starts_the_clock_at_each_first_ct_of_those_free_of_progression():
    rows = np.arange(30)
    cox = fit_response(RESPONSES, rows, PFS, landmark=True)
    free = (TIME > MONTHS) & ~RESPONSES.progressive
    assert 0 < free.sum() < 30
    np.testing.assert_array_equal(RESPONSES.free_of_progression(TIME), free)
    later = Outcome((TIME - MONTHS)[free], PFS.event[free])
    expected = fit_cox(RESPONSES.non_responder[free], later, ridge=1.0)
    np.testing.assert_allclose(cox.coefficients, expected.coefficients)
    whole = fit_response(RESPONSES, rows, PFS, landmark=False)
    assert (whole.n, cox.n) == (30, free.sum())
    scores = score_responses(cox, RESPONSES, free)
    assert np.isnan(scores[~free]).all()
    assert len(set(scores[free])) == 2


def test_where_nothing_can_be_told_there_is_no_model():
    rows = np.arange(30)
    alike = Responses(non_responder=np.ones(30), months=MONTHS)
    assert fit_response(alike, rows, PFS, landmark=False) is None
    assert fit_response(RESPONSES, rows, Outcome(TIME, np.zeros(30, bool)), landmark=False) is None
    undated = Responses(non_responder=RESPONSES.non_responder, months=np.full(30, np.nan))
    assert fit_response(undated, rows, PFS, landmark=True) is None
    with pytest.raises(InvalidInput, match="3 rows, 30 outcomes"):
        fit_response(RESPONSES, rows[:3], PFS, landmark=False)


def test_pd_at_the_ct_is_no_freedom_from_progression_however_the_months_are_rounded():
    """PFS of 2.04 months ends at the CT that is noted as 2.0 months: the same day."""
    answers = [Response.PROGRESSIVE] * 10 + [Response.STABLE] * 10 + [Response.PARTIAL] * 10
    responses = collect_responses([FirstResponse(category=one, months=2.0) for one in answers])
    time = np.concatenate([np.full(10, 2.04), 3.0 + np.arange(20) * 7 % 20])
    assert responses.free_of_progression(time).tolist() == [False] * 10 + [True] * 20
    cox = fit_response(responses, np.arange(30), Outcome(time, np.ones(30, bool)), landmark=True)
    assert cox.n == 20
    untold = Responses(non_responder=responses.non_responder, months=responses.months)
    assert untold.free_of_progression(time).all()


def test_pd_with_a_pfs_that_goes_on_beyond_the_ct_is_told_as_a_contradiction():
    answers = [Response.PROGRESSIVE] * 4 + [Response.STABLE, Response.PROGRESSIVE]
    responses = collect_responses([FirstResponse(category=one, months=2.0) for one in answers])
    time = np.array([2.04, 2.04, 9.0, np.nan, 9.0, 2.0])
    event = np.array([True, False, True, False, True, True])
    found = responses.contradicting(time, event)
    assert found.tolist() == [False, True, True, False, False, False]
    untold = Responses(non_responder=responses.non_responder, months=responses.months)
    assert not untold.contradicting(time, event).any()
