"""The locked set: patients whom only the gate reads, a counted number of times; then newer ones take their place."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.case import write_json
from engines.models.promotion import Decision
from train.errors import CohortRefused

SCHEMA = "mmf-locked"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One reading of a locked set.

    Attributes:
        at: aware time.
        candidate: version that was judged.
        running: version it was compared with, "" = none.
        patients: that were read.
        decision: None = the reading was begun and never ended; it counts.
    """

    at: datetime
    candidate: str
    running: str
    patients: int
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSet:
    """One locked set.

    Attributes:
        number: from 1.
        opened: aware time; patients first seen since then may enter.
        patients: their keys; they enter while the set is open.
        looks: every reading, in order.
        retired: when its looks were used up and its patients left the gate; None = in use.
    """

    number: int
    opened: datetime
    patients: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()
    retired: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRules:
    """How patients are locked.

    Attributes:
        share: of new patients.
        looks: at one set.
    """

    share: float = 0.25
    looks: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Which patients were ever seen, and every locked set with its looks.

    Attributes:
        seen: keys of patients who have been assigned, locked or not.
        sets: the last one is in use.
    """

    seen: frozenset[str] = frozenset()
    sets: tuple[LockedSet, ...] = ()

    @property
    def present(self) -> LockedSet | None:
        """The set in use."""
        return self.sets[-1] if self.sets and self.sets[-1].retired is None else None

    def locked(self) -> frozenset[str]:
        """Returns the keys of the patients who are locked now."""
        return frozenset(self.present.patients) if self.present else frozenset()


def assign_patients(
    ledger: Ledger,
    patients: Sequence[str],
    rules: LockRules,
    now: datetime,
    *,
    learned: frozenset[str] = frozenset(),
    kept: frozenset[str] = frozenset(),
) -> Ledger:
    """Returns the ledger with every patient assigned; who was assigned before stays where he is.

    A set whose looks are used up is retired first: its patients may be learned from, but for those whom the site keeps
    for testing, whom the caller leaves out of training for ever; and only patients who come from now on enter the next
    one. Whether a new patient is locked follows from his key alone.

    Args:
        ledger: as it was.
        patients: keys of every patient of the cohort.
        rules: share and looks.
        now: aware time.
        learned: keys of patients whom a model has learned from; they are never locked.
        kept: keys of patients whom the site locked itself (splits.csv, testing).
    """
    sets = list(ledger.sets)
    present = ledger.present
    if present is not None and len(present.looks) >= rules.looks:
        sets[-1] = replace(present, retired=now)
        present = None
    if present is None:
        present = LockedSet(number=len(sets) + 1, opened=now)
        sets.append(present)
    fresh = [key for key in dict.fromkeys(patients) if key not in ledger.seen]
    chosen = [key for key in fresh if key not in learned and (key in kept or _draw(key) < rules.share)]
    sets[-1] = replace(present, patients=(*present.patients, *chosen))
    return Ledger(seen=ledger.seen | set(fresh), sets=tuple(sets))


def note_look(ledger: Ledger, look: Look) -> Ledger:
    """Returns the ledger with one more reading of the set in use; to be written before the reading begins.

    Raises:
        CohortRefused: no set is in use.
    """
    present = ledger.present
    if present is None:
        raise CohortRefused("no locked set is in use: it cannot be read")
    return replace(ledger, sets=(*ledger.sets[:-1], replace(present, looks=(*present.looks, look))))


def end_look(ledger: Ledger, decision: Decision) -> Ledger:
    """Returns the ledger with the decision of the last reading."""
    present = ledger.sets[-1]
    looks = (*present.looks[:-1], replace(present.looks[-1], decision=decision))
    return replace(ledger, sets=(*ledger.sets[:-1], replace(present, looks=looks)))


def read_ledger(path: Path) -> Ledger:
    """Returns the ledger of a file, empty when there is none.

    Raises:
        CohortRefused: it is damaged; a lost ledger would unlock patients, so it is never made anew silently.
    """
    if not path.is_file():
        return Ledger()
    try:
        content: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        if (content["schema"], content["schema_version"]) != (SCHEMA, SCHEMA_VERSION):
            raise CohortRefused(f"{path} is not {SCHEMA} version {SCHEMA_VERSION}")
        body = {key: content[key] for key in ("seen", "sets")}
        ledger: Ledger = _FORM.validate_python(body)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise CohortRefused(f"{path} is damaged: {error}; restore it from the backup") from error
    return ledger


def write_ledger(ledger: Ledger, path: Path) -> None:
    """Writes the ledger, atomically and durably."""
    content = _FORM.dump_python(ledger, mode="json")
    content["seen"] = sorted(content["seen"])
    write_json({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **content}, path)


def _draw(key: str) -> float:
    """A number in [0, 1) that belongs to the patient for ever."""
    return int.from_bytes(hashlib.sha256(f"locked {key}".encode()).digest()[:8], "big") / 2.0**64


_FORM = TypeAdapter(Ledger)
