"""Follow-up of a cohort for one endpoint: times and events, checked once at the door."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Follow-up of n patients for one endpoint.

    Attributes:
        time: (n,) float64, from time zero to the event or to the last contact, finite and >= 0; any unit, months here.
        event: (n,) bool, True where the event was seen, False where the patient was censored.

    Raises:
        InvalidInput: shapes differ, no row, a time that is negative or not finite, an event that is not 0 or 1.
    """

    time: FloatArray
    event: BoolArray

    def __post_init__(self) -> None:
        time = np.ascontiguousarray(self.time, dtype=np.float64)
        event = np.asarray(self.event)
        if time.ndim != 1 or event.shape != time.shape:
            raise InvalidInput(
                f"times and events must be two vectors of one length, got {time.shape}, {event.shape}"
            )
        if time.size == 0:
            raise InvalidInput("follow-up of no patient: expected at least one row")
        bad = np.flatnonzero(~(np.isfinite(time) & (time >= 0)))
        if bad.size:
            raise InvalidInput(
                f"time must be finite and >= 0: got {time[bad[0]]:g} in row {bad[0]} ({bad.size} such rows);"
                " an event before time zero is an error of the table"
            )
        if event.dtype != np.bool_ and not np.isin(event, (0, 1)).all():
            raise InvalidInput(f"events must be 0 or 1, got {sorted(set(np.unique(event)) - {0, 1})[:5]}")
        object.__setattr__(self, "time", time)
        object.__setattr__(self, "event", np.ascontiguousarray(event, dtype=np.bool_))

    @property
    def n(self) -> int:
        """Number of patients."""
        return int(self.time.size)

    @property
    def events(self) -> int:
        """Number of events."""
        return int(self.event.sum())

    def take(self, rows: IntArray | BoolArray) -> "Outcome":
        """Returns the follow-up of some rows (indices, which may repeat, or a mask)."""
        return Outcome(self.time[rows], self.event[rows])


def check_score(score: npt.ArrayLike, outcome: Outcome) -> FloatArray:
    """Returns the score as float64 after checking that it has one finite value for each patient.

    Raises:
        InvalidInput: another length, or a value that is not finite.
    """
    values = np.ascontiguousarray(score, dtype=np.float64)
    if values.shape != (outcome.n,):
        raise InvalidInput(
            f"a score needs one value for each of {outcome.n} patients, got shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise InvalidInput(f"{int((~np.isfinite(values)).sum())} values of the score are not finite")
    return values
