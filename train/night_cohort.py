"""The cohort of one night: who is locked, who may be learned from, and a snapshot that no export can change under it."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.case import Case, CaseIdentity, check_case, list_cases
from engines.endpoint import Endpoint
from engines.errors import CaseRefused
from engines.models.promotion import SeenCase, describe_case
from train.data import Split
from train.errors import CohortRefused
from train.splits import FILE_NAME, read_splits

FOLLOW_UP = "follow_up"
"""Of a case and of a cohort, as ``mmf-node outcomes import`` writes it."""
PROVENANCE = "provenance"
ACQUISITION = "acquisition"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NightCase:
    """One case of the cohort.

    Attributes:
        seen: as the records of the models name it.
        follow_up: months and event by endpoint, of those known.
        potential_months: how long the patient could be followed; None = not known.
        centre: pseudonym of the hospital, "" = not known.
        shown: whether the node's result was shown to anybody.
    """

    case: Case
    identity: CaseIdentity
    seen: SeenCase
    follow_up: dict[Endpoint, tuple[float, bool]]
    potential_months: float | None
    centre: str
    shown: bool

    @property
    def labelled(self) -> bool:
        """Whether both outcomes are known."""
        return len(self.follow_up) == len(Endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpVerdict:
    """What the import of the outcomes said of the whole cohort.

    Attributes:
        refusals: why it must not be learned from; empty = nothing speaks against it.
        accepted_by: who takes it all the same, and why.
        completeness: observed over potential person-time; None = outcomes were not imported by the node.
    """

    refusals: tuple[str, ...] = ()
    accepted_by: str = ""
    completeness: float | None = None


def read_night_cases(cohort: Path) -> tuple[NightCase, ...]:
    """Returns every case of a cohort, checked against its hashes.

    Raises:
        CaseRefused: there is none, or one is damaged.
        CohortRefused: outcomes.json of a case is of another form, or a patient has two cases.
    """
    found = [_read_case(folder) for folder in list_cases(cohort)]
    counts = Counter(one.identity.patient_key for one in found)
    for one in found:
        if counts[one.identity.patient_key] > 1:
            raise CohortRefused(
                f"patient {one.identity.patient_key} has {counts[one.identity.patient_key]} cases; one index scan a patient"
            )
    return tuple(found)


def read_follow_up_verdict(cohort: Path) -> FollowUpVerdict:
    """Returns what the import of the outcomes said of the cohort.

    Raises:
        CohortRefused: follow_up.json is damaged.
    """
    path = cohort / f"{FOLLOW_UP}.json"
    if not path.is_file():
        return FollowUpVerdict()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return FollowUpVerdict(
            refusals=tuple(content["refusals"]),
            accepted_by=content["accepted_by"],
            completeness=float(content["completeness"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CohortRefused(f"{path} is damaged: {error}") from error


def read_kept_patients(cohort: Path, cases: Sequence[NightCase]) -> frozenset[str]:
    """Returns the keys of patients whom the site itself keeps for testing, by the cohort's splits.csv.

    Raises:
        CohortRefused: splits.csv has faults.
    """
    if not (cohort / FILE_NAME).is_file():
        return frozenset()
    splits = read_splits(cohort / FILE_NAME, [one.identity.case_id for one in cases])
    return frozenset(
        one.identity.patient_key for one in cases if splits[one.identity.case_id] is Split.TESTING
    )


def digest_cases(cases: Sequence[NightCase]) -> str:
    """Returns the SHA-256 over the manifests of the cases: other cases, images or outcomes give another one."""
    digest = hashlib.sha256()
    for one in sorted(cases, key=lambda one: one.identity.case_id):
        digest.update((one.case.folder / "case.json").read_bytes())
    return digest.hexdigest()


def take_snapshot(cases: Sequence[NightCase], folder: Path) -> None:
    """Makes a cohort of these cases by hard links: an export that replaces a file leaves the snapshot as it was.

    Args:
        cases: to be learned from.
        folder: of the snapshot; one that is whole is kept.
    """
    for one in cases:
        target = folder / one.identity.case_id
        if (target / "case.json").is_file():
            continue
        draft = folder / ".drafts" / one.identity.case_id
        shutil.rmtree(draft, ignore_errors=True)
        for path in sorted(one.case.folder.rglob("*")):
            if path.is_file():
                copy = draft / path.relative_to(one.case.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                _link(path, copy)
        draft.rename(target)
    shutil.rmtree(folder / ".drafts", ignore_errors=True)


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(path, copy)


def _read_case(folder: Path) -> NightCase:
    case, identity = check_case(folder)
    potential = _read_table(case, FOLLOW_UP).get("potential_months")
    provenance = _read_table(case, PROVENANCE)
    return NightCase(
        case=case,
        identity=identity,
        seen=describe_case(case, identity),
        follow_up=_read_follow_up(case, identity.case_id),
        potential_months=float(potential) if isinstance(potential, int | float) else None,
        centre=str(_read_table(case, ACQUISITION).get("centre", "")),
        shown=provenance.get("result_shown") is True,
    )


def _read_table(case: Case, name: str) -> dict[str, object]:
    content = case.read_json(name) if case.has(name) else {}
    if not isinstance(content, dict):
        raise CaseRefused(f"case {case.folder.name}: {name}.json is no object")
    return content


def _read_follow_up(case: Case, case_id: str) -> dict[Endpoint, tuple[float, bool]]:
    content = _read_table(case, "outcomes")
    found: dict[Endpoint, tuple[float, bool]] = {}
    for endpoint in Endpoint:
        entry = content.get(endpoint.value.lower())
        if entry is None:
            continue
        months, event = (entry.get("months"), entry.get("event")) if isinstance(entry, dict) else (None, None)
        if not isinstance(months, int | float) or not isinstance(event, bool):
            raise CohortRefused(f"case {case_id}: outcomes.json says {endpoint} = {entry!r}")
        found[endpoint] = (float(months), event)
    return found
