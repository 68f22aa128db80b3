"""One small synthetic study for all tests of the report's rooms."""

import pytest

from node.report.header import Envelope, localise, read_source
from node.report.segments import draw_masks, list_segments
from node.report.uids import digest_report
from tests.report_study import make_report, make_sources


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    return make_sources(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def envelope(sources):
    report = make_report()
    source = read_source(sources.instance)
    return Envelope(
        report=report,
        source=source,
        digest=digest_report(report),
        concluded=localise(report.concluded_at, source),
    )


@pytest.fixture(scope="session")
def segments(envelope):
    return list_segments(envelope.report)


@pytest.fixture(scope="session")
def masks(sources, segments):
    return {used.phase: draw_masks(segments, sources, used) for used in sources.used}


@pytest.fixture(scope="session")
def segmentations(envelope, sources, masks):
    from node.report.seg import build_segmentation

    return {used.phase: build_segmentation(envelope, used, masks[used.phase]) for used in sources.used}
