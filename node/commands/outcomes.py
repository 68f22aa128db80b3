"""``mmf-node outcomes``: join outcomes to exported cases; write the table's template."""

import getpass
import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.endpoint import Endpoint
from node.commands.export import CohortFolder, find_cohort, find_linkage
from node.commands.jobs import AsJson, Conf, Data
from node.errors import OutcomesRefused
from node.settings import Settings, read_settings

if TYPE_CHECKING:
    from node.cohort.joining import Join
    from node.cohort.outcomes import FollowUp

_MOST_SHOWN = 20

app = typer.Typer(
    name="outcomes", help="Outcomes of exported patients: import, template.", no_args_is_help=True
)


@app.command("import")
def import_outcomes(
    table: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Outcomes table; see outcomes template.")],
    freeze: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="Day of the data freeze; no date may be later.")
    ],
    cohort: CohortFolder = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="The table may take back an event or a treatment start.")
    ] = False,
    accept_incomplete: Annotated[
        str,
        typer.Option(
            metavar="REASON", help="Take outcomes that were refused as incomplete; the reason is kept."
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; write nothing.")] = False,
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Joins treatment start, death, progression, last contact and last imaging to the exported cases.

    Time zero is the first dose. Follow-up is cut for everybody at the data freeze less the reporting lag
    (learning.reporting_lag_days). Outcomes whose knowing seems to depend on them are refused.
    """
    settings = read_settings(conf, data=data)
    join, cut = join_outcomes(
        settings,
        table,
        freeze.date(),
        cohort=find_cohort(settings, cohort),
        replace=replace,
        accept_incomplete=accept_incomplete,
        dry_run=dry_run,
    )
    show_join(join, cut, as_json=as_json, dry_run=dry_run)
    if join.completeness.refusals and not accept_incomplete:
        raise OutcomesRefused("nothing was written: " + "; ".join(join.completeness.refusals))


@app.command("template")
def write_outcomes_template(
    out: Annotated[Path | None, typer.Option(help="File to write; standard output when left out.")] = None,
    patients: Annotated[
        bool, typer.Option("--patients", help="A row for each patient of the register; it names patients.")
    ] = False,
    conf: Conf = None,
    data: Data = None,
) -> None:
    """Writes an empty outcomes table, or one with a row for each exported patient."""
    from node.cohort.linkage import Linkage
    from node.cohort.outcomes import write_template

    settings = read_settings(conf, data=data)
    rows = []
    if patients:
        linkage = Linkage.open(find_linkage(settings))
        wanted = {case.patient_key for case in linkage.cases.values()}
        rows = [
            {
                "patient_id": patient.patient_id,
                "issuer": patient.issuer,
                "treatment_start": patient.treatment_start.isoformat() if patient.treatment_start else "",
            }
            for patient in linkage.patients.values()
            if patient.key in wanted
        ]
    text = write_template(rows)
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists():
        raise typer.BadParameter(f"{out} exists already", param_hint="--out")
    out.write_text(text, encoding="utf-8")


def join_outcomes(
    settings: Settings,
    table: Path,
    freeze: date,
    *,
    cohort: Path,
    replace: bool = False,
    accept_incomplete: str = "",
    dry_run: bool = False,
) -> tuple["Join", date]:
    """Returns what an import does and its cut, after writing it unless it is refused or only tried.

    Args:
        settings: of the node.
        table: outcomes CSV.
        freeze: day of the data freeze.
        cohort: folder of the cohort.
        replace: the table may take back an event or a treatment start.
        accept_incomplete: reason to write outcomes that are refused as incomplete.
        dry_run: write nothing.

    Raises:
        Busy: an export is under way.
        OutcomesRefused: the table has faults, or contradicts the cases.
    """
    from engines.lock import hold_lock
    from node.cohort.joining import JoinRules, plan_join, write_join
    from node.cohort.linkage import LOCK_NAME, Linkage
    from node.cohort.outcomes import cut_of, read_outcomes
    from node.cohort.swap import mend_cohort

    cut = cut_of(freeze, settings.learning.reporting_lag_days)
    rules = JoinRules(
        cut=cut, maximum_scan_age_weeks=settings.assessment.maximum_scan_age_weeks, replace=replace
    )
    rows = read_outcomes(table, freeze)
    private = find_linkage(settings)
    with hold_lock(private / LOCK_NAME, "an export or an import of outcomes"):
        if not dry_run:
            mend_cohort(cohort)
        linkage = Linkage.open(private)
        join = plan_join(cohort, linkage, rows, rules)
        refused = bool(join.completeness.refusals) and not accept_incomplete
        if not dry_run and not refused:
            accepted = f"{getpass.getuser()}: {accept_incomplete}" if accept_incomplete else ""
            write_join(cohort, linkage, rows, join, accepted)
    return join, cut


def show_join(join: "Join", cut: date, *, as_json: bool, dry_run: bool) -> None:
    """Writes what an import does on standard output."""
    found = join.completeness
    changes = [entry.change.value for entry in join.cases]
    counts = {word: changes.count(word) for word in ("new", "changed", "same")}
    if as_json:
        content = {
            "cut": cut.isoformat(),
            "dry_run": dry_run,
            "counts": counts,
            "rows_without_case": list(join.without_case),
            "cases_without_row": list(join.without_row),
            "cases": [
                {
                    "case_id": entry.case_id,
                    "row": entry.row,
                    "change": entry.change.value,
                    "before": _plain(entry.before),
                    "after": _plain(entry.after.follow_up),
                    "scan_age_days": entry.scan_age_days,
                    "flags": list(entry.flags),
                }
                for entry in join.cases
            ],
            "completeness": {
                "patients": found.patients,
                "known": found.known,
                "events": found.events,
                "share": found.share,
                "median_follow_up_months": found.median_follow_up_months,
                "early_late_p": found.early_late_p,
                "early_late_ratio": found.early_late_ratio,
                "refusals": list(found.refusals),
                "warnings": list(found.warnings),
            },
        }
        typer.echo(json.dumps(content, indent=2))
        return
    typer.echo(f"administrative cut {cut}, the same for everybody")
    typer.echo(
        ", ".join(f"{count} {word}" for word, count in counts.items()) + (" (dry run)" if dry_run else "")
    )
    typer.echo(f"{len(join.without_case)} rows without a case, {len(join.without_row)} cases without a row")
    for entry in [entry for entry in join.cases if dry_run and entry.change.value != "same"][:_MOST_SHOWN]:
        typer.echo(
            f"  case {entry.case_id} (row {entry.row}): {_words(entry.before)} -> {_words(entry.after.follow_up)}"
        )
    for entry in [entry for entry in join.cases if entry.flags][:_MOST_SHOWN]:
        typer.echo(f"  case {entry.case_id} (row {entry.row}): {'; '.join(entry.flags)}")
    median = found.median_follow_up_months
    typer.echo(
        f"OS: {found.known} of {found.patients} patients known, {found.events} deaths, completeness {found.share:.2f},"
        f" median follow-up {'not reached' if median is None else f'{median:.1f} months'}"
    )
    for line in found.warnings:
        typer.echo(f"  Note: {line}")


def _plain(follow_up: Mapping[Endpoint, "FollowUp"]) -> dict[str, dict[str, float | bool]]:
    return {
        endpoint.value.lower(): {"months": one.months, "event": one.event}
        for endpoint, one in follow_up.items()
    }


def _words(follow_up: Mapping[Endpoint, "FollowUp"]) -> str:
    plain = _plain(follow_up)
    return (
        ", ".join(
            f"{name.upper()} {one['months']:.1f} months {'event' if one['event'] else 'censored'}"
            for name, one in plain.items()
        )
        or "nothing"
    )
