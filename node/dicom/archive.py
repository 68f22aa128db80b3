"""The embedded archive of the demo and the tests: files what it gets, answers C-ECHO and C-FIND; no clinical use."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.events import Event
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification
from pynetdicom.transport import ThreadedAssociationServer

from engines.errors import InvalidInput
from node.dicom.send import send_at_once

log = structlog.get_logger(__name__)

_SUCCESS, _PENDING, _CANCEL, _IDENTIFIER_DOES_NOT_MATCH = 0x0000, 0xFF00, 0xFE00, 0xA900
_LEVEL_KEYS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
"""Query/Retrieve levels of the Study Root model and their unique keys (PS3.4 C.6.2.1)."""
_INDEXED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "SpecificCharacterSet",
)


class EmbeddedArchive:
    """A storage SCP that keeps objects as files and an index of them in memory.

    Files found in its folder at the start are indexed again, so an archive outlives its process.
    """

    def __init__(
        self, folder: Path, *, ae_title: str = "ARCHIVE", address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self._address = (address, port)
        self._lock = threading.Lock()
        self._index: dict[str, Dataset] = {}
        self._paths: dict[str, Path] = {}
        self._server: ThreadedAssociationServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> int:
        """Opens the port and returns it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.rglob("*.dcm")):
            self._add(path)
        entity = AE(ae_title=self.ae_title)
        entity.require_called_aet = True
        entity.maximum_pdu_size = 262_144
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        for model in (Verification, StudyRootQueryRetrieveInformationModelFind):
            entity.add_supported_context(model, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._server = entity.start_server(
            self._address,
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, send_at_once),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
                (evt.EVT_C_ECHO, _echo),
            ],
        )
        log.info("archive listening", port=self.port, ae_title=self.ae_title)
        return self.port

    def stop(self) -> None:
        """Closes the port and ends its associations."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    @property
    def port(self) -> int:
        """The port that is really open."""
        if self._server is None:
            raise InvalidInput("the archive is not started")
        return int(self._server.server_address[1])

    def paths(self) -> tuple[Path, ...]:
        """Returns the files it keeps, sorted."""
        with self._lock:
            return tuple(sorted(self._paths.values()))

    def count(self) -> int:
        """Returns how many objects it keeps."""
        with self._lock:
            return len(self._paths)

    def find(self, identifier: Dataset) -> list[Dataset]:
        """Returns the matches of a C-FIND identifier at its Query/Retrieve level.

        Raises:
            InvalidInput: the level is none of STUDY, SERIES, IMAGE.

        Source: PS3.4 C.2.2.2 (matching), C.6.2 (Study Root model).
        """
        level = str(identifier.get("QueryRetrieveLevel", ""))
        if level not in _LEVEL_KEYS:
            raise InvalidInput(f"Query/Retrieve Level {level!r}; expected one of {', '.join(_LEVEL_KEYS)}")
        with self._lock:
            entries = list(self._index.values())
        found: dict[str, Dataset] = {}
        for entry in entries:
            key = str(entry.get(_LEVEL_KEYS[level], ""))
            if key not in found and _matches(entry, identifier):
                found[key] = _answer(entry, identifier, entries, level)
        return list(found.values())

    def _store(self, event: Event) -> int:
        name = hashlib.sha256(str(event.request.AffectedSOPInstanceUID).encode()).hexdigest()[:32]
        path = self.folder / name[:2] / f"{name}.dcm"
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            file.write(event.encoded_dataset())
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        self._add(path)
        return _SUCCESS

    def _find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        try:
            answers = self.find(event.identifier)
        except InvalidInput as error:
            log.warning("query refused", reason=str(error))
            yield _IDENTIFIER_DOES_NOT_MATCH, None
            return
        for answer in answers:
            if event.is_cancelled:
                yield _CANCEL, None
                return
            yield _PENDING, answer

    def _add(self, path: Path) -> None:
        entry = dcmread(path, specific_tags=list(_INDEXED), stop_before_pixels=True)
        with self._lock:
            self._index[str(entry.SOPInstanceUID)] = entry
            self._paths[str(entry.SOPInstanceUID)] = path


def _echo(_: Event) -> int:
    return _SUCCESS


def _matches(entry: Dataset, identifier: Dataset) -> bool:
    """Single value, list of UID and wild card matching (PS3.4 C.2.2.2.1-4) of the indexed attributes."""
    for keyword in _INDEXED:
        asked = identifier.get(keyword)
        if keyword == "SpecificCharacterSet" or asked is None or str(asked) == "":
            continue
        present = str(entry.get(keyword, ""))
        wanted = [str(one) for one in asked] if isinstance(asked, list | tuple) else str(asked).split("\\")
        if not any(_match_text(present, one) for one in wanted):
            return False
    return True


def _match_text(present: str, wanted: str) -> bool:
    head, star, tail = wanted.partition("*")
    if not star:
        return present == wanted
    return present.startswith(head) and (not tail or present.endswith(tail))


def _answer(entry: Dataset, identifier: Dataset, entries: list[Dataset], level: str) -> Dataset:
    answer = Dataset()
    answer.QueryRetrieveLevel = level
    answer.SpecificCharacterSet = entry.get("SpecificCharacterSet", "ISO_IR 192")
    for element in identifier:
        if element.keyword in _INDEXED:
            setattr(answer, element.keyword, entry.get(element.keyword, ""))
    setattr(answer, _LEVEL_KEYS[level], entry.get(_LEVEL_KEYS[level], ""))
    of_study = [one for one in entries if one.StudyInstanceUID == entry.StudyInstanceUID]
    of_series = [one for one in of_study if one.SeriesInstanceUID == entry.SeriesInstanceUID]
    for keyword, value in (
        ("NumberOfStudyRelatedInstances", len(of_study)),
        ("NumberOfStudyRelatedSeries", len({one.SeriesInstanceUID for one in of_study})),
        ("NumberOfSeriesRelatedInstances", len(of_series)),
        ("ModalitiesInStudy", sorted({str(one.get("Modality", "")) for one in of_study})),
        ("SOPClassesInStudy", sorted({str(one.SOPClassUID) for one in of_study})),
    ):
        if Tag(keyword) in identifier:
            setattr(answer, keyword, value)
    return answer
