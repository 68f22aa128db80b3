"""Measures how bright vessels and organs are in every acquisition that may be a phase."""

from collections.abc import Iterable, Mapping
from time import perf_counter

import structlog

from node.errors import SeriesRefused
from node.study import Acquisition

log = structlog.get_logger(__name__)


def measure_vessels(acquisitions: Iterable[Acquisition]) -> Mapping[str, Mapping[str, float]]:
    """Returns the median HU by structure (``aorta``, ``portal_vein``, ...) of each acquisition, by its label.

    One volume is in memory at a time. An acquisition whose pixels cannot be read is left out and logged with the reason;
    the plan then judges it without pixels, and the volume is refused again, with its numbers, when it is to be used.

    Args:
        acquisitions: candidates, as ``node.phases.plan.list_candidates`` names them.
    """
    from engines.enhancement import measure_enhancement
    from node.dicom.volumes import read_volume

    measured: dict[str, Mapping[str, float]] = {}
    for acquisition in acquisitions:
        began = perf_counter()
        try:
            measured[acquisition.label] = measure_enhancement(read_volume(acquisition)).medians()
        except SeriesRefused as refusal:
            log.warning("pixels not read", series=acquisition.label, reason=str(refusal))
            continue
        log.info("enhancement measured", series=acquisition.label, seconds=round(perf_counter() - began, 2))
    return measured
