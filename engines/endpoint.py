"""The two endpoints as words, and the times at which survival is reported."""

from collections.abc import Mapping
from enum import StrEnum


class Endpoint(StrEnum):
    """What is predicted, from the first dose of the checkpoint inhibitor.

    OS: death, censored at the last documented contact. PFS: progression or death, censored at the last imaging.
    Source: method, section 1.
    """

    OS = "OS"
    PFS = "PFS"


HORIZONS_MONTHS: Mapping[Endpoint, tuple[float, ...]] = {
    Endpoint.OS: (6.0, 12.0, 24.0, 36.0),
    Endpoint.PFS: (3.0, 6.0, 12.0),
}
"""Months at which the survival probability is reported. Source: method, section 7."""
