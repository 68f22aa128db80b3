"""Runs a step of the pipeline once: the same inputs give back what an earlier run left in the case folder."""

import hashlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError

from engines.case import hash_file, write_json

log = structlog.get_logger(__name__)

Value = TypeVar("Value")
_MIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """How a step ended: ``reused`` means that an earlier run had done it."""

    name: str
    seconds: float
    peak_mib: float
    reused: bool


Progress = Callable[[str], None]
"""Called with the name of each step before it starts."""


def ignore_progress(_: str) -> None:
    """Progress that nobody watches."""


@dataclass(slots=True, kw_only=True)
class Steps:
    """The steps of one case, each recorded as ``steps/NAME.json`` beside the files it made.

    Attributes:
        folder: the case folder.
        progress: told each step's name.
        done: what ran or was reused, in order.
        outputs: files of the case that these steps made or found to be theirs.
    """

    folder: Path
    progress: Progress = ignore_progress
    done: list[StepDone] = field(default_factory=list)
    outputs: set[Path] = field(default_factory=set)

    def run(
        self,
        name: str,
        inputs: Sequence[str],
        produce: Callable[[], Value],
        form: TypeAdapter[Value],
        outputs: Sequence[Path] = (),
    ) -> Value:
        """Returns the value of a step, made now or by an earlier run with equal inputs.

        Args:
            name: the step's name, also its file's name.
            inputs: everything the result depends on, as words: hashes, versions, settings.
            produce: makes the value and writes ``outputs``.
            form: how the value is written as JSON and read again.
            outputs: files inside the case folder that ``produce`` writes; a step whose files changed runs again.
        """
        self.progress(name)
        key = digest_words([name, *inputs])
        record = self.folder / "steps" / f"{name}.json"
        started = time.perf_counter()
        recalled = self._recall(record, key, form)
        if recalled is not None:
            self.outputs.update(outputs)
            self._note(name, started, reused=True)
            return recalled[0]
        value = produce()
        done = self._note(name, started, reused=False)
        self.outputs.update(outputs)
        write_json(
            {
                "step": name,
                "key": key,
                "outputs": {path.relative_to(self.folder).as_posix(): hash_file(path) for path in outputs},
                "value": form.dump_python(value, mode="json"),
                "seconds": done.seconds,
                "peak_mib": done.peak_mib,
            },
            record,
        )
        return value

    def digest(self, name: str) -> str:
        """Returns the hash of what a finished step took and gave: the input of the steps that build on it."""
        content = json.loads((self.folder / "steps" / f"{name}.json").read_text(encoding="utf-8"))
        return digest_words(
            [json.dumps(content[part], sort_keys=True) for part in ("key", "outputs", "value")]
        )

    def _recall(self, record: Path, key: str, form: TypeAdapter[Value]) -> tuple[Value] | None:
        if not record.is_file():
            return None
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            if content["key"] != key:
                return None
            for name, digest in content["outputs"].items():
                path = self.folder / name
                if not path.is_file() or hash_file(path) != digest:
                    log.warning(
                        "step runs again because an output changed", step=content["step"], output=name
                    )
                    return None
            return (form.validate_python(content["value"], strict=False),)
        except (json.JSONDecodeError, KeyError, ValidationError) as error:
            log.warning("step runs again because its record is damaged", record=record.name, error=str(error))
            return None

    def _note(self, name: str, started: float, *, reused: bool) -> StepDone:
        done = StepDone(
            name=name,
            seconds=time.perf_counter() - started,
            peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB,
            reused=reused,
        )
        self.done.append(done)
        log.info("step done", step=name, seconds=round(done.seconds, 3), reused=reused)
        return done


def digest_words(words: Sequence[str]) -> str:
    """Returns the SHA-256 of a list of words; the list ['ab'] and the list ['a', 'b'] differ."""
    digest = hashlib.sha256()
    for word in words:
        encoded = word.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()
