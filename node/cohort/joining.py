"""Joins outcomes to the exported cases: what would change, what contradicts, how complete it is; then writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from engines.case import Case, check_case, seal_case, write_json
from engines.endpoint import Endpoint
from node.cohort.completeness import Completeness, Followed, assess_completeness
from node.cohort.linkage import Linkage, LinkedCase, LinkedPatient
from node.cohort.outcomes import DAYS_PER_MONTH, FollowUp, OutcomeRow, PatientOutcome, describe_outcome
from node.cohort.swap import copy_case, drafted_case, put_case
from node.errors import OutcomesRefused, PatientAmbiguous

FOLLOW_UP_NAME = "follow_up.json"
"""In a case: how long the patient could be followed. In the cohort: completeness of the follow-up and its verdict."""
FOLLOW_UP_SCHEMA = "mmf-follow-up"
FOLLOW_UP_VERSION = 1

DAYS_PER_WEEK = 7.0

_SAME_MONTHS = 1e-9
_MOST_FAULTS_SHOWN = 50


class Change(StrEnum):
    """What the import does to a case."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """One case and its outcome.

    Attributes:
        row: line of the table.
        before: as the case has it.
        after: as the table says it.
        scan_age_days: from the scan to the first dose; None = not known.
    """

    case_id: str
    row: int
    change: Change
    before: Mapping[Endpoint, FollowUp]
    after: PatientOutcome
    scan_age_days: int | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A whole import.

    Attributes:
        cases: those with a row in the table.
        without_case: lines of the table whose patient has no case.
        without_row: cases whose patient has no row in the table.
        completeness: of everybody whose treatment began before the cut.
    """

    cases: tuple[Joined, ...]
    without_case: tuple[int, ...]
    without_row: tuple[str, ...]
    completeness: Completeness


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRules:
    """How outcomes are joined.

    Attributes:
        cut: the administrative cut, the same for all.
        maximum_scan_age_weeks: an older scan is flagged.
        replace: an event that a case has may be taken back by the table.
    """

    cut: date
    maximum_scan_age_weeks: float = 8.0
    replace: bool = False


def plan_join(cohort: Path, linkage: Linkage, rows: Sequence[OutcomeRow], rules: JoinRules) -> Join:
    """Returns what an import would do; nothing is written.

    Args:
        cohort: folder of the cohort.
        linkage: the register of the site.
        rows: of the outcomes table, checked.
        rules: cut and limits.

    Raises:
        OutcomesRefused: a row contradicts its case; all are listed.
        CaseRefused: a case is damaged.
    """
    cases = {
        case_id: case for case_id, case in linkage.cases.items() if (cohort / case_id / "case.json").is_file()
    }
    faults: list[str] = []
    joined: list[Joined] = []
    without_case: list[int] = []
    patients = _find_patients(linkage, rows, faults)
    for row in rows:
        patient = patients.get(row.row)
        own = [case for case in cases.values() if patient is not None and case.patient_key == patient.key]
        if patient is None or not own:
            without_case.append(row.row)
            continue
        for case in own:
            entry = _join_case(cohort, row, patient, case, rules, faults)
            if entry is not None:
                joined.append(entry)
    if faults:
        shown = faults[:_MOST_FAULTS_SHOWN]
        raise OutcomesRefused(f"{len(faults)} rows contradict their cases:\n" + "\n".join(shown))
    with_row = {entry.case_id for entry in joined}
    without_row = tuple(sorted(set(cases) - with_row))
    return Join(
        cases=tuple(joined),
        without_case=tuple(without_case),
        without_row=without_row,
        completeness=assess_completeness(
            [*_followed(joined), *_followed_before(without_row, cases, linkage, rules.cut)]
        ),
    )


def write_join(
    cohort: Path, linkage: Linkage, rows: Sequence[OutcomeRow], join: Join, accepted_by: str = ""
) -> None:
    """Writes outcomes.json and follow_up.json of every case that changes, seals it again, and tells the cohort.

    Args:
        cohort: folder of the cohort.
        linkage: remembers time zero of every patient of the table, also of those without a case yet.
        rows: of the table.
        join: as ``plan_join`` made it.
        accepted_by: who takes outcomes that were refused as incomplete; "" = nobody had to.
    """
    for row in rows:
        patient = linkage.patient(row.patient_id, row.issuer)
        linkage.note_start(patient, row.treatment_start)
    linkage.save()
    for entry in join.cases:
        if entry.change != Change.SAME:
            _write_case(cohort, entry)
    found = join.completeness
    write_json(
        {
            "schema": FOLLOW_UP_SCHEMA,
            "schema_version": FOLLOW_UP_VERSION,
            "patients": found.patients,
            "known": found.known,
            "events": found.events,
            "completeness": found.share,
            "median_follow_up_months": found.median_follow_up_months,
            "early_late_p": found.early_late_p,
            "early_late_ratio": found.early_late_ratio,
            "refusals": list(found.refusals),
            "warnings": list(found.warnings),
            "accepted_by": accepted_by if found.refusals else "",
        },
        cohort / FOLLOW_UP_NAME,
    )


def read_follow_up(case: Case, case_id: str) -> dict[Endpoint, FollowUp]:
    """Returns the outcomes that a case has.

    Raises:
        OutcomesRefused: outcomes.json is of another form.
    """
    if not case.has("outcomes"):
        return {}
    content = case.read_json("outcomes")
    found: dict[Endpoint, FollowUp] = {}
    for endpoint in Endpoint:
        entry = content.get(endpoint.value.lower()) if isinstance(content, dict) else content
        if entry is None:
            continue
        months, event = (entry.get("months"), entry.get("event")) if isinstance(entry, dict) else (None, None)
        if not isinstance(months, int | float) or not isinstance(event, bool):
            raise OutcomesRefused(f"case {case_id}: outcomes.json says {endpoint} = {entry!r}")
        found[endpoint] = FollowUp(months=float(months), event=event)
    return found


def _find_patients(
    linkage: Linkage, rows: Sequence[OutcomeRow], faults: list[str]
) -> dict[int, LinkedPatient | None]:
    """The patient of each row, None where the register has none; two rows for one patient are a fault."""
    found: dict[int, LinkedPatient | None] = {}
    first: dict[str, int] = {}
    for row in rows:
        try:
            patient = found[row.row] = linkage.find_patient(row.patient_id, row.issuer)
        except PatientAmbiguous as refused:
            faults.append(f"row {row.row}, column issuer: {refused}")
            continue
        earlier = row.row if patient is None else first.setdefault(patient.key, row.row)
        if earlier != row.row:
            faults.append(
                f"row {row.row}, column patient_id: the same patient of the register as row {earlier}; state both issuers"
            )
    return found


def _join_case(
    cohort: Path,
    row: OutcomeRow,
    patient: LinkedPatient,
    linked: LinkedCase,
    rules: JoinRules,
    faults: list[str],
) -> Joined | None:
    """One case with its outcome; None and a fault where they contradict."""
    place, start = f"row {row.row}, column treatment_start", row.treatment_start
    known = patient.treatment_start
    if known is not None and known != start and not rules.replace:
        faults.append(
            f"{place}: {start}, the clinical table or an earlier import said {known} (--replace takes the new one)"
        )
        return None
    age = None if linked.examined_on is None else (start - linked.examined_on).days
    if age is not None and age < 0:
        faults.append(
            f"{place}: the scan of case {linked.case_id} was taken {-age} days after it: a follow-up, no case; give"
            " treatment_start in the clinical table and export with --replace"
        )
        return None
    case = Case(folder=cohort / linked.case_id)
    before = read_follow_up(case, linked.case_id)
    after = describe_outcome(row, rules.cut)
    for endpoint, old in before.items():
        new = after.follow_up.get(endpoint)
        if old.event and (new is None or not new.event) and not rules.replace:
            faults.append(
                f"row {row.row}: case {linked.case_id} has a {endpoint} event at {old.months:.1f} months that the table"
                " no longer shows (--replace takes it back)"
            )
            return None
    flags = (*after.notes, *_flag_age(age, rules.maximum_scan_age_weeks))
    table = _describe_follow_up(after, age, flags)
    return Joined(
        case_id=linked.case_id,
        row=row.row,
        change=_compare(case, before, after, table),
        before=before,
        after=after,
        scan_age_days=age,
        flags=flags,
    )


def _describe_follow_up(after: PatientOutcome, age: int | None, flags: Sequence[str]) -> dict[str, object]:
    """follow_up.json of a case: the potential follow-up in whole months, so that no date can be read off."""
    return {
        "schema": FOLLOW_UP_SCHEMA,
        "schema_version": FOLLOW_UP_VERSION,
        "potential_months": int(after.potential_months),
        "scan_age_days": age,
        "flags": list(flags),
    }


def _compare(
    case: Case, before: Mapping[Endpoint, FollowUp], after: PatientOutcome, table: Mapping[str, object]
) -> Change:
    """Compares all that is written: the potential follow-up grows with every cut, of the dead as of the living."""
    new = after.follow_up
    if not before and new:
        return Change.NEW
    same = before.keys() == new.keys() and all(
        old.event == new[endpoint].event and abs(old.months - new[endpoint].months) < _SAME_MONTHS
        for endpoint, old in before.items()
    )
    name = FOLLOW_UP_NAME.removesuffix(".json")
    return Change.SAME if same and case.has(name) and case.read_json(name) == table else Change.CHANGED


def _flag_age(days: int | None, maximum_weeks: float) -> tuple[str, ...]:
    if days is None:
        return ("the day of the scan is not known",)
    if days > maximum_weeks * DAYS_PER_WEEK:
        return (
            f"the scan is {days / DAYS_PER_WEEK:.1f} weeks older than the first dose (at most {maximum_weeks:g})",
        )
    return ()


def _followed(joined: Sequence[Joined]) -> list[Followed]:
    return [
        Followed(potential_months=entry.after.potential_months, os=entry.after.follow_up.get(Endpoint.OS))
        for entry in joined
        if entry.after.potential_months > 0
    ]


def _followed_before(
    case_ids: Sequence[str], cases: Mapping[str, LinkedCase], linkage: Linkage, cut: date
) -> list[Followed]:
    """Patients with a case and a known first dose before the cut, of whom the table says nothing."""
    found: list[Followed] = []
    for case_id in case_ids:
        start = linkage.patients[cases[case_id].patient_key].treatment_start
        if start is not None and start < cut:
            found.append(Followed(potential_months=(cut - start).days / DAYS_PER_MONTH, os=None))
    return found


def _write_case(cohort: Path, entry: Joined) -> None:
    """Outcomes and potential follow-up in a draft of the case, sealed anew; then it takes the place of the case."""
    case, identity = check_case(cohort / entry.case_id)
    outcomes = {
        endpoint.value.lower(): {"months": follow.months, "event": follow.event}
        for endpoint, follow in entry.after.follow_up.items()
    }
    with drafted_case(cohort, entry.case_id) as folder:
        draft = copy_case(case, folder)
        if outcomes or draft.has("outcomes"):
            write_json(outcomes, folder / "outcomes.json")
        write_json(
            _describe_follow_up(entry.after, entry.scan_age_days, entry.flags), folder / FOLLOW_UP_NAME
        )
        seal_case(draft, identity)
        put_case(folder, cohort, entry.case_id)
