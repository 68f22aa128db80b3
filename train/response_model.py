"""mRECIST as a model: responder or not at the first follow-up CT, one Cox variable, with the landmark that PFS needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.clinical.examinations import FirstResponse
from engines.clinical.response import Response
from engines.errors import InvalidInput
from engines.models.comparator import NON_RESPONDER
from engines.survival.cox import CoxFit, fit_cox, log_hazard
from engines.survival.outcome import Outcome

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ROUNDING_MONTHS = 0.5
"""CT and progression may be rounded to whole months, each its own way: within this they are one day (OURS)."""

LIGHT_RIDGE = 1.0
"""A response that separates the events keeps a finite coefficient (OURS), as in the clinical models."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Responses:
    """The first response of n cases.

    Attributes:
        non_responder: (n,), 1 for SD and PD, 0 for CR and PR, NaN where not known or not evaluable.
        months: (n,), of the first follow-up CT from the first dose, NaN where not known.
        progressive: (n,), whether the category is PD; None = nobody tells who of the non-responders had progressed.
    """

    non_responder: FloatArray
    months: FloatArray
    progressive: BoolArray | None = None

    def free_of_progression(self, pfs_months: FloatArray) -> BoolArray:
        """Returns (n,) whether a case is evaluable and was observed beyond its first follow-up CT without progression.

        Who has PD at that CT has progressed there, whatever the months say: CT and PFS may be rounded differently.

        Args:
            pfs_months: (n,), time to progression, death or censoring, NaN where not known.

        Source: method, section 7: progression at that CT is the event itself, so PFS starts there.
        """
        with np.errstate(invalid="ignore"):
            free: BoolArray = np.isfinite(self.non_responder) & (pfs_months > self.months)
        return free if self.progressive is None else free & ~self.progressive

    def contradicting(self, pfs_months: FloatArray, pfs_event: BoolArray) -> BoolArray:
        """Returns (n,) whether a case has PD at its first follow-up CT, but a PFS that goes on beyond it.

        Args:
            pfs_months: (n,), NaN where not known.
            pfs_event: (n,), whether PFS ended with progression or death.
        """
        if self.progressive is None:
            return np.zeros(self.months.size, dtype=np.bool_)
        latest = self.months + np.where(pfs_event, ROUNDING_MONTHS, 0.0)
        with np.errstate(invalid="ignore"):
            beyond: BoolArray = self.progressive & (pfs_months > latest)
        return beyond

    def take(self, rows: IntArray) -> "Responses":
        """Returns the responses of some cases."""
        told = self.progressive
        return Responses(
            non_responder=self.non_responder[rows],
            months=self.months[rows],
            progressive=None if told is None else told[rows],
        )


def collect_responses(responses: Sequence[FirstResponse | None]) -> Responses:
    """Returns the responses of cases as arrays."""
    responders = [None if one is None else one.category.is_responder for one in responses]
    months = [None if one is None else one.months for one in responses]
    return Responses(
        non_responder=np.array([np.nan if flag is None else float(not flag) for flag in responders]),
        months=np.array([np.nan if month is None else month for month in months]),
        progressive=np.array(
            [one is not None and one.category is Response.PROGRESSIVE for one in responses], dtype=np.bool_
        ),
    )


def fit_response(responses: Responses, rows: IntArray, outcome: Outcome, *, landmark: bool) -> CoxFit | None:
    """Returns the Cox model of the response, or None where it cannot be told: no event, or all answered alike.

    Args:
        responses: of all cases.
        rows: those that may be seen.
        outcome: of exactly these rows.
        landmark: time starts at each patient's first follow-up CT, of those who were free of progression there.

    Raises:
        InvalidInput: rows and outcome do not fit.
    """
    if len(rows) != outcome.n:
        raise InvalidInput(f"mRECIST: {len(rows)} rows, {outcome.n} outcomes")
    seen = responses.take(rows)
    value, time = seen.non_responder, outcome.time
    used = np.flatnonzero(np.isfinite(value))
    if landmark:
        used = np.flatnonzero(seen.free_of_progression(time))
        time = time - np.nan_to_num(seen.months)
    if used.size == 0 or np.ptp(value[used]) == 0 or not outcome.event[used].any():
        return None
    return fit_cox(value[used], Outcome(time[used], outcome.event[used]), (NON_RESPONDER,), ridge=LIGHT_RIDGE)


def score_responses(cox: CoxFit, responses: Responses, allowed: BoolArray | None = None) -> FloatArray:
    """Returns the log hazard of every case, (n,), NaN where the response is not known or not ``allowed``.

    Args:
        cox: as ``fit_response`` gives it.
        responses: of all cases.
        allowed: (n,), the cases that the model speaks of; None = all that are evaluable.
    """
    known = np.isfinite(responses.non_responder)
    known = known if allowed is None else known & allowed
    scores = np.full(known.size, np.nan)
    if known.any():
        scores[known] = log_hazard(cox, responses.non_responder[known][:, np.newaxis])
    return scores
