"""The settings of the node: read from node.toml, checked as a whole, every fault listed at once."""

import copy
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from engines.configuration import find_conf
from engines.errors import InvalidInput
from node.errors import SettingsRefused

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""Application Entity title: 1 to 16 characters, not spaces alone, no backslash, no control characters (PS3.5, VR AE)."""
Port = Annotated[int, Field(ge=0, le=65535)]
_LONGEST_SECONDS = 2_592_000.0
"""30 days: longer pauses are a slip of the pen (OURS)."""
_LONGEST_DAYS = 36_500
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")
"""Letters, digits, hyphens and dots (RFC 1123 section 2.1), and the underscore that containers are named with."""

_PATHS = (
    ("storage", "data"),
    ("models", "folder"),
    ("clinical", "table"),
    ("assessment", "phase_rules"),
    ("learning", "cohort"),
    ("learning", "runs"),
)


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


OptionalPath = Annotated[Path | None, BeforeValidator(_empty_is_none)]
"""A path, or none when the text is empty."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"{str(value).lower()} is neither a number nor a text")
        return value


class AllowedPeer(_Section):
    """A peer that may open associations.

    Attributes:
        ae_title: calling AE title.
        address: IP address or network it calls from, e.g. ``10.1.2.0/24``; empty = any.
    """

    ae_title: AeTitle
    address: str = ""

    @field_validator("address")
    @classmethod
    def _is_network(cls, value: str) -> str:
        if value:
            ipaddress.ip_network(value, strict=False)
        return value


class ListenerSection(_Section):
    """The storage SCP.

    Attributes:
        ae_title: our AE title, checked as the called title.
        address: address to bind. Another than loopback needs ``allowed``.
        port: 0 takes a free one.
        allowed: who may call; empty = any calling title, on loopback only.
        maximum_associations: open at once.
        maximum_pdu_bytes: offered, and refused above.
        pdu_timeout_seconds: silence inside a PDU that ends an association.
        idle_timeout_seconds: silence between messages that ends an association.
    """

    ae_title: AeTitle = "MMFNODE"
    address: str = "127.0.0.1"
    port: Port = 11112
    allowed: tuple[AllowedPeer, ...] = ()
    maximum_associations: Annotated[int, Field(ge=1, le=1000)] = 20
    maximum_pdu_bytes: Annotated[int, Field(ge=16_384, le=4_194_304)] = 262_144
    pdu_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0
    idle_timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0

    @property
    def loopback(self) -> bool:
        """Whether only this machine can call."""
        return self.address == "localhost" or ipaddress.ip_address(self.address).is_loopback

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value != "localhost":
            ipaddress.ip_address(value)
        return value


class StorageSection(_Section):
    """The data folder.

    Attributes:
        data: inbox, jobs, cases and results live here.
        minimum_free_gib: below this the listener answers 0xA700 (out of resources).
        keep_days: cases and inbox entries of finished jobs are removed after this; 0 keeps them.
    """

    data: Path = Path("mmf-data")
    minimum_free_gib: Annotated[float, Field(ge=0)] = 2.0
    keep_days: Annotated[int, Field(ge=0, le=_LONGEST_DAYS)] = 30

    @field_validator("data", mode="before")
    @classmethod
    def _is_named(cls, value: object) -> object:
        if value == "":
            raise ValueError("is empty: name the folder")
        return value


class CompletenessSection(_Section):
    """When a study counts as complete.

    Attributes:
        quiet_seconds: nothing of the study arrived for this long, no object in transfer.
        settle_seconds: waited in addition while a phase or a slice is missing.
    """

    quiet_seconds: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = 120.0


class DestinationSection(_Section):
    """The archive that gets the results. Empty ``host`` = results stay in the data folder.

    Attributes:
        ae_title: called AE title.
        commitment: ask for storage commitment after each delivery; the archive must know our AE title and port.
        maximum_tries: then the job is shelved.
        first_retry_seconds: doubled after each try, up to ``longest_retry_seconds``.
    """

    ae_title: AeTitle = "PACS"
    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 104
    commitment: bool = False
    maximum_tries: Annotated[int, Field(ge=1, le=1000)] = 12
    first_retry_seconds: Annotated[float, Field(gt=0, le=_LONGEST_SECONDS)] = 10.0
    longest_retry_seconds: Annotated[float, Field(gt=0, le=_LONGEST_SECONDS)] = 3600.0

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        if value and not _HOST_NAME.fullmatch(value):
            try:
                ipaddress.ip_address(value)
            except ValueError as error:
                raise ValueError(
                    f"'{value}' is neither a host name nor an IP address; the port stands in destination.port"
                ) from error
        return value


class ModelsSection(_Section):
    """The model in service.

    Attributes:
        folder: a model folder, or a store of versions; empty = the packaged demonstration models.
        allow_demonstration: a model trained on phantoms may score (its numbers mean nothing clinically).
    """

    folder: OptionalPath = None
    allow_demonstration: bool = False


class ClinicalSection(_Section):
    """The clinical table.

    Attributes:
        table: CSV with the columns of the README's appendix; empty = no clinical variables.
    """

    table: OptionalPath = None


class AssessmentSection(_Section):
    """Who is assessed.

    Attributes:
        requested_by: ``clinical_row``: a risk is given only to patients with a row in the clinical table; ``any``: to
            every study with the three phases (a research archive).
        report_unrequested: the archive gets a report on a study that nobody asked for too: no risk, and why. False
            leaves such studies with a report.json in the data folder alone.
        maximum_scan_age_weeks: a scan older than this before treatment start is flagged (method, section 1).
        phase_rules: phases.toml to use; empty = the packaged one.
        radiomics: extract radiomic features for every study.
        activation_maps: the report shows where the networks looked.
    """

    requested_by: Literal["clinical_row", "any"] = "clinical_row"
    report_unrequested: bool = True
    maximum_scan_age_weeks: Annotated[float, Field(gt=0)] = 8.0
    phase_rules: OptionalPath = None
    radiomics: bool = True
    activation_maps: bool = True


class WorkerSection(_Section):
    """The processes that assess.

    Attributes:
        processes: worker processes.
        threads: torch, SimpleITK and radiomics threads of each.
        lease_seconds: a worker that says nothing for this long has lost its job.
        maximum_tries: of an assessment that fails, before the job is shelved.
    """

    processes: Annotated[int, Field(ge=0, le=64)] = 1
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    lease_seconds: Annotated[float, Field(ge=5, le=86_400)] = 120.0
    maximum_tries: Annotated[int, Field(ge=1, le=100)] = 3


class LearningSection(_Section):
    """The learning loop: exported cases, outcomes, nightly training, the gate.

    Attributes:
        enabled: ``serve`` starts ``mmf-train nightly`` at ``hour``.
        hour: of the day at which the nightly training starts, in ``time_zone``.
        time_zone: IANA name, e.g. ``Europe/Paris``.
        export: finished studies are exported before each nightly training.
        cohort: folder of the exported cases; empty = DATA/cohort.
        runs: folder of the nightly runs and their reports; empty = DATA/nightly.
        recipe: of the training, a name in conf/recipes or a file.
        side: voxels of the exported network inputs; the recipe's side.
        centre: pseudonym of this hospital, written into each exported case; harm in one centre is looked for by it.
        reporting_lag_days: follow-up is cut this long before the data freeze, for every patient alike.
        minimum_follow_up_months: patients whose treatment began later than this before the cut are not trained on.
        minimum_new_patients: fewer than this since the last run: no training.
        locked_share: of new patients go into the locked set, which only the gate reads.
        looks: how often the gate may read one locked set; then its patients go to training and newer ones replace them.
        margin: of the C-index by which a candidate may be worse and still count as not worse.
        minimum_power: below this probability to release an equal model, the gate does not look and cannot decide.
        automatic: a candidate that passes goes into service without a person.
    """

    enabled: bool = False
    hour: Annotated[int, Field(ge=0, le=23)] = 2
    time_zone: str = "UTC"
    export: bool = True
    cohort: OptionalPath = None
    runs: OptionalPath = None
    recipe: Annotated[str, Field(min_length=1)] = "paper"
    side: Annotated[int, Field(ge=2, le=512)] = 128
    centre: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,32}$")] = ""
    reporting_lag_days: Annotated[int, Field(ge=0, le=3650)] = 90
    minimum_follow_up_months: Annotated[float, Field(ge=0, le=120)] = 6.0
    minimum_new_patients: Annotated[int, Field(ge=1)] = 20
    locked_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    looks: Annotated[int, Field(ge=1, le=100)] = 5
    margin: Annotated[float, Field(gt=0, le=0.5)] = 0.02
    minimum_power: Annotated[float, Field(ge=0, lt=1)] = 0.5
    automatic: bool = False

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value} is no IANA time zone such as Europe/Paris") from error
        return value


class Settings(_Section):
    """All settings of the node; each section is a table of node.toml with the same name."""

    listener: ListenerSection = ListenerSection()
    storage: StorageSection = StorageSection()
    completeness: CompletenessSection = CompletenessSection()
    destination: DestinationSection = DestinationSection()
    models: ModelsSection = ModelsSection()
    clinical: ClinicalSection = ClinicalSection()
    assessment: AssessmentSection = AssessmentSection()
    worker: WorkerSection = WorkerSection()
    learning: LearningSection = LearningSection()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        faults = _find_contradictions(self)
        if faults:
            raise ValueError("\n".join(faults))
        return self


def read_settings(
    path: Path | None = None,
    *,
    port: int | None = None,
    data: Path | None = None,
    changes: Mapping[str, Mapping[str, object]] | None = None,
) -> Settings:
    """Returns the settings of ``path``, with the command line's words laid over them.

    Args:
        path: a node.toml; None looks in MMF_CONF, ./conf and the packaged defaults.
        port: listener port from the command line.
        data: data folder from the command line.
        changes: other values from the command line, by section and name.

    Raises:
        SettingsRefused: with every fault, one a line.
    """
    try:
        found = find_conf("node.toml", path)
        content = tomllib.loads(found.read_text(encoding="utf-8-sig"))
    except (InvalidInput, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsRefused([f"{path or 'node.toml'}: {error}"]) from error
    laid_over: dict[str, Mapping[str, object]] = dict(changes or {})
    if port is not None:
        laid_over["listener"] = {**laid_over.get("listener", {}), "port": port}
    if data is not None:
        laid_over["storage"] = {**laid_over.get("storage", {}), "data": str(data)}
    if path is not None:
        _anchor_paths(content, found.parent)
    for section, values in laid_over.items():
        if isinstance(content.setdefault(section, {}), dict):
            content[section].update(values)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise SettingsRefused([f"{found}: {line}" for line in _describe(error, content)]) from error


def write_settings(settings: Settings) -> str:
    """Returns all settings as TOML, their paths absolute, so that another process reads the same wherever it runs."""
    content = settings.model_dump(mode="json", exclude_none=True)
    for section, name in _PATHS:
        if name in content[section]:
            content[section][name] = str(Path(content[section][name]).resolve())
    return tomli_w.dumps(content)


def _anchor_paths(content: dict[str, Any], folder: Path) -> None:
    """Makes relative paths of a settings file mean its own folder, wherever the command was called."""
    for section, name in _PATHS:
        values = content.get(section)
        if isinstance(values, dict) and isinstance(values.get(name), str) and values[name]:
            values[name] = str(folder.resolve() / values[name])


_LOOPBACK = ("127.0.0.1", "::1")


def _find_contradictions(settings: Settings) -> list[str]:
    faults = []
    listener, destination = settings.listener, settings.destination
    if not listener.loopback and not listener.allowed:
        faults.append(
            f"listener.address {listener.address} can be reached from other machines but listener.allowed is empty: "
            "add [[listener.allowed]] with ae_title and address of each peer, or bind 127.0.0.1"
        )
    everywhere = listener.address != "localhost" and ipaddress.ip_address(listener.address).is_unspecified
    same_host = destination.host in {listener.address, "localhost", *(_LOOPBACK if everywhere else ())}
    if destination.commitment and not destination.host:
        faults.append(
            "destination.commitment asks an archive to keep the results, but destination.host is empty"
        )
    if destination.commitment and listener.port == 0:
        faults.append(
            "destination.commitment asks the archive to call back, but listener.port 0 takes another port at each start"
        )
    if destination.host and same_host and destination.port == listener.port:
        faults.append(f"destination {destination.host}:{destination.port} is this node's own listener")
    if settings.learning.enabled and settings.models.folder is None:
        faults.append("learning.enabled trains models, but models.folder names no store of versions for them")
    if destination.first_retry_seconds > destination.longest_retry_seconds:
        faults.append(
            f"destination.first_retry_seconds {destination.first_retry_seconds:g} is longer than "
            f"longest_retry_seconds {destination.longest_retry_seconds:g}"
        )
    for name, path in (
        ("models.folder", settings.models.folder),
        ("clinical.table", settings.clinical.table),
        ("assessment.phase_rules", settings.assessment.phase_rules),
    ):
        if path is not None and not path.exists():
            faults.append(f"{name} {path} does not exist")
        elif path is not None and path.is_dir() != (name == "models.folder"):
            faults.append(f"{name} {path} is {'a' if path.is_dir() else 'no'} folder")
    learning = settings.learning
    if learning.cohort is not None and learning.cohort == learning.runs:
        faults.append(f"learning.cohort and learning.runs are one folder, {learning.cohort}")
    if settings.storage.data.exists() and not settings.storage.data.is_dir():
        faults.append(f"storage.data {settings.storage.data} is not a folder")
    return faults


def _describe(error: ValidationError, content: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown setting"
        lines.extend(f"{place}: {line}" if place else line for line in message.splitlines())
    lines.extend(_find_contradictions_among_valid(content, error))
    return lines


def _find_contradictions_among_valid(content: dict[str, Any], error: ValidationError) -> list[str]:
    """The contradictions between the values that are valid by themselves (pydantic stops before the whole)."""
    faults = [fault["loc"] for fault in error.errors(include_url=False)]
    if any(not place for place in faults):
        return []
    sound = copy.deepcopy(content)
    for section, *rest in faults:
        values = sound.get(str(section))
        if isinstance(values, dict) and rest:
            values.pop(str(rest[0]), None)
        else:
            sound.pop(str(section), None)
    try:
        Settings.model_validate(sound)
    except ValidationError as rest:
        return [
            line
            for fault in rest.errors(include_url=False)
            for line in fault["msg"].removeprefix("Value error, ").splitlines()
        ]
    return []
