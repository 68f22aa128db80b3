"""UIDs depend on what the result says, not on when it was said."""

import re
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from node.report.uids import derive_uid, digest_report
from tests.report_study import make_report


@settings(derandomize=True, deadline=None)
@given(parts=st.lists(st.text(), min_size=1, max_size=4))
def test_every_uid_is_a_legal_one_from_a_uuid(parts):
    uid = derive_uid(*parts)
    assert re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid)
    assert derive_uid(*parts) == uid


def test_parts_are_kept_apart():
    assert derive_uid("ab", "c") != derive_uid("a", "bc")


def test_a_later_rerun_has_the_same_digest():
    report = make_report()
    later = replace(
        report, concluded_at=report.concluded_at + timedelta(days=1), seconds_per_step=(("x", 1.0),)
    )
    assert digest_report(later) == digest_report(report)


def test_another_finding_or_model_has_another_digest():
    report = make_report()
    others = [
        replace(report, flags=("other",)),
        replace(report, models=(replace(report.models[0], sha256="cd" * 32),)),
        replace(report, risks=(replace(report.risks[0], log_hazard=0.1), report.risks[1])),
    ]
    digests = {digest_report(other) for other in others} | {
        digest_report(report),
        digest_report(report, "mask"),
    }
    assert len(digests) == 5
