"""Puts whole case folders in place of others, and mends what a crash left: a case is the old one or the new one."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from engines.case import Case, hash_file, write_json

log = structlog.get_logger(__name__)

DRAFTS = ".drafts"
SEAL_NAME = "case.json"
_OLD = "-old"
_GONE = "-gone"
_SUPERSEDES = ".supersedes.json"


@contextmanager
def drafted_case(cohort: Path, case_id: str) -> Iterator[Path]:
    """Gives an empty place for the draft of a case; what is left of it when the block ends is removed."""
    draft = cohort / DRAFTS / f"{os.getpid()}-{case_id}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def put_case(draft: Path, cohort: Path, case_id: str, supersedes: Sequence[str] = ()) -> None:
    """Gives a whole, sealed draft its place; the case that had it and those it supersedes go.

    Args:
        draft: as ``drafted_case`` gave it.
        cohort: folder of the cohort.
        case_id: name of the case.
        supersedes: other cases of the same patient.
    """
    target, old = cohort / case_id, draft.with_name(f"{draft.name}{_OLD}")
    record = draft.with_name(f"{draft.name}{_SUPERSEDES}")
    if supersedes:
        write_json(
            {"case": case_id, "seal": hash_file(draft / SEAL_NAME), "supersedes": list(supersedes)}, record
        )
    if target.exists():
        target.rename(old)
    draft.rename(target)
    _finish(cohort, record)
    shutil.rmtree(old, ignore_errors=True)


def remove_case(cohort: Path, case_id: str) -> None:
    """Takes a case out of the cohort at once: never a folder that is half a case."""
    folder = cohort / case_id
    if not folder.exists():
        return
    gone = cohort / DRAFTS / f"{os.getpid()}-{case_id}{_GONE}"
    gone.parent.mkdir(exist_ok=True)
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone)


def copy_case(case: Case, draft: Path) -> Case:
    """Returns a draft with the files of a case, as hard links where the file system has them.

    Whoever changes a file of the draft must replace it (``write_json`` does): the case keeps its own.
    """
    for path in sorted(case.folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            copy = draft / path.relative_to(case.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, copy)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, copy)
    return Case(folder=draft)


def mend_cohort(cohort: Path) -> None:
    """Finishes or takes back what a killed export or import left; the caller holds the lock of both.

    A case that had left its place for a new one comes back, a superseded case whose successor is in place goes, drafts
    are removed.

    Args:
        cohort: folder of the cohort; one that is not there has nothing to mend.
    """
    drafts = cohort / DRAFTS
    if not drafts.is_dir():
        return
    for old in sorted(drafts.glob(f"*{_OLD}")):
        case_id = _name_case(old.name.removesuffix(_OLD))
        if not (cohort / case_id).exists():
            log.warning("a case is back in the place that a killed run had taken it from", case=case_id)
            old.rename(cohort / case_id)
    for record in sorted(drafts.glob(f"*{_SUPERSEDES}")):
        _finish(cohort, record)
    shutil.rmtree(drafts)


def _finish(cohort: Path, record: Path) -> None:
    """Removes the cases that the record names, if their successor is in place with the seal it names; then the record."""
    if not record.is_file():
        return
    content = json.loads(record.read_text(encoding="utf-8"))
    seal = cohort / content["case"] / SEAL_NAME
    if seal.is_file() and hash_file(seal) == content["seal"]:
        for case_id in content["supersedes"]:
            remove_case(cohort, case_id)
    record.unlink()


def _name_case(draft: str) -> str:
    """The case of a draft folder PID-CASE."""
    return draft.rpartition("-")[2]
