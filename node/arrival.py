"""What the node knows of an object the moment it lies safely on disk, and of a study that is still arriving."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the encoded data set says about itself, read without decoding pixels.

    Attributes:
        series_instance_uid: empty where the object has none (a few non-image classes).
        acquisition: Acquisition Number and Time as they came, joined; equal for the slices of one pass.
        position_mm: Image Position (Patient) along the slice normal, mm; None when not an image with a plane.
        frames: Number of Frames; 1 when absent.
        ours: carries this product's Contributing Equipment: a result of ours that came back.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str = ""
    acquisition: str = ""
    position_mm: float | None = None
    frames: int = 1
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One object that was kept: acknowledged to its sender, durable, recognised again when it comes twice.

    Attributes:
        content_sha256: hash of the encoded data set as it came (without file meta information).
        path: where it lies, relative to the inbox folder; made of hashes only.
        calling_ae_title: who sent it, as the sender called itself; "" after a rebuild from the folder.
        conflict: the same SOP Instance UID came with other content; both are kept.
    """

    identity: Identity
    transfer_syntax_uid: str
    content_sha256: str
    path: PurePosixPath
    size_bytes: int
    received_at: datetime
    calling_ae_title: str = ""
    address: str = ""
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """The images of one series and one acquisition, counted as they arrive.

    Attributes:
        images: slices, or frames of multi-frame objects.
        positions_mm: sorted distinct slice positions along the normal, mm.
    """

    series_instance_uid: str
    acquisition: str
    images: int
    positions_mm: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudy:
    """A study with CT images that no job has taken up yet.

    Attributes:
        images: CT objects known, those of earlier jobs included.
        passes: its CT passes.
        last_received_at: when the newest CT object of it was kept.
    """

    study_instance_uid: str
    images: int
    passes: tuple[Pass, ...]
    last_received_at: datetime
