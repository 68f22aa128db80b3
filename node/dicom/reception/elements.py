"""Reads what an encoded data set says about itself by walking its elements: no decoding, nothing allocated for values."""

import math
import re
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from mmap import mmap

from pydicom._uid_dict import UID_dictionary

from node.arrival import Identity
from node.errors import InstanceRefused

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN, "1.2.840.10008.1.2.1"})
"""Transfer syntaxes with uncompressed pixels (PS3.5 A.1-A.3)."""
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Transfer syntaxes whose data set is deflated as a whole (PS3.5 A.5): never negotiated, so never inflated."""

MAXIMUM_ELEMENTS = 1_000_000
"""Elements and items walked before an object is refused: an enhanced CT of 2,000 frames has about 100,000 (OURS)."""
MAXIMUM_FRAMES = 1_000_000
"""More than any object holds (OURS)."""
MAXIMUM_DEPTH = 32
"""Nested sequences of undefined length (OURS; structured reports stay below 16)."""

SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
MODALITY = 0x00080060
MANUFACTURER_MODEL_NAME = 0x00081090
CONTRIBUTING_EQUIPMENT_SEQUENCE = 0x0018A001
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
ACQUISITION_NUMBER = 0x00200012
IMAGE_POSITION_PATIENT = 0x00200032
IMAGE_ORIENTATION_PATIENT = 0x00200037
TEMPORAL_POSITION_IDENTIFIER = 0x00200100
SAMPLES_PER_PIXEL = 0x00280002
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_ALLOCATED = 0x00280100
FLOAT_PIXEL_DATA = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA = 0x7FE00009
PIXEL_DATA = 0x7FE00010

_PIXELS = frozenset({FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA})
_WANTED = frozenset(
    {
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        MODALITY,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        ACQUISITION_NUMBER,
        IMAGE_POSITION_PATIENT,
        IMAGE_ORIENTATION_PATIENT,
        TEMPORAL_POSITION_IDENTIFIER,
        SAMPLES_PER_PIXEL,
        NUMBER_OF_FRAMES,
        ROWS,
        COLUMNS,
        BITS_ALLOCATED,
    }
)
_MAXIMUM_VALUE_BYTES = 128
_MAXIMUM_EQUIPMENT_BYTES = 65_536

_IMAGE_CLASSES = frozenset(
    uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and "Image Storage" in name
)
"""SOP classes that are nothing without pixels (PS3.6 table A-1)."""

_LONG_LENGTH = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
"""Value representations with a 32-bit length (PS3.5 7.1.2)."""
_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_STRUCTS = tuple(
    tuple(struct.Struct(order + fields).unpack_from for fields in ("HH2sH", "I", "HHI")) for order in "<>"
)
"""Element header, 32-bit length and item header, little and big endian."""

Encoded = bytes | bytearray | memoryview | mmap


class IdentityReader:
    """Reads what an encoded data set says about itself, as far as it has come, each element once."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        """Begins a data set.

        Args:
            transfer_syntax_uid: how it is encoded; none of :data:`DEFLATED`.
        """
        self._walk = _Walk(transfer_syntax_uid=transfer_syntax_uid)

    def read_prefix(self, prefix: Encoded) -> str:
        """Returns the Study Instance UID if it lies in the first bytes of the data set, else ""."""
        with suppress(InstanceRefused):  # the prefix ends within an element, as prefixes do
            self._walk.top_level(prefix, 0)
        return self._walk.text(STUDY_INSTANCE_UID)

    def read_whole(self, data: Encoded, offset: int, our_name: str) -> Identity:
        """Returns what the data set says about itself, having walked it to its last byte.

        Args:
            data: the encoded data set, from ``offset`` to its end.
            offset: where the data set begins; a prefix that was read before began here too.
            our_name: Manufacturer's Model Name that marks our own results in Contributing Equipment.

        Raises:
            InstanceRefused: it ends within an element, lacks one of its UIDs, or holds fewer pixels than it says.

        Source: PS3.5 section 7 (elements, sequences of undefined length) and A.4 (encapsulated pixel data).
        """
        walk = self._walk
        if walk.top_level(data, offset) != len(data):
            raise InstanceRefused("the data set is shorter than the part of it that came first")
        identity = Identity(
            sop_class_uid=walk.uid(SOP_CLASS_UID, "SOP Class UID"),
            sop_instance_uid=walk.uid(SOP_INSTANCE_UID, "SOP Instance UID"),
            study_instance_uid=walk.uid(STUDY_INSTANCE_UID, "Study Instance UID"),
            series_instance_uid=walk.uid(SERIES_INSTANCE_UID, "Series Instance UID"),
            modality=walk.text(MODALITY)[:16],
            acquisition="/".join(
                walk.text(tag) for tag in (ACQUISITION_NUMBER, TEMPORAL_POSITION_IDENTIFIER)
            ).strip("/"),
            position_mm=_project_position(
                walk.numbers(IMAGE_POSITION_PATIENT), walk.numbers(IMAGE_ORIENTATION_PATIENT)
            ),
            frames=_read_frames(walk.text(NUMBER_OF_FRAMES)),
            ours=our_name.encode() in walk.equipment,
        )
        _check_pixels(walk, identity)
        return identity


def read_identity(data: Encoded, offset: int, transfer_syntax_uid: str, our_name: str) -> Identity:
    """Returns what a whole data set says about itself: :meth:`IdentityReader.read_whole` in one call."""
    return IdentityReader(transfer_syntax_uid).read_whole(data, offset, our_name)


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One pass over a data set: skips by length, keeps the few short values that are wanted.

    ``reached`` is the end of the last whole element of the top level, counted from where the data set begins: a
    prefix is walked when it comes, and the rest from there.
    """

    transfer_syntax_uid: str
    data: Encoded = b""
    offset: int = 0
    reached: int = 0
    values: dict[int, bytes] = field(default_factory=dict)
    equipment: bytes = b""
    pixel_bytes: int | None = None
    walked: int = 0

    def top_level(self, data: Encoded, offset: int) -> int:
        """Walks on from ``reached`` to the end of ``data``, and returns where it ended; the data set begins at ``offset``."""
        self.data, self.offset = data, offset
        return self.elements(offset + self.reached, len(data), depth=0)

    def elements(self, position: int, end: int, depth: int, *, implicit: bool | None = None) -> int:
        """Walks elements up to ``end`` or an Item Delimitation Item; returns the position after them."""
        if depth > MAXIMUM_DEPTH:
            raise InstanceRefused(f"sequences are nested deeper than {MAXIMUM_DEPTH}")
        if implicit is None:
            implicit = self.transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN
        read_short, read_long, _ = _STRUCTS[self.transfer_syntax_uid == EXPLICIT_BIG_ENDIAN]
        data = self.data
        while position < end:
            if position + 8 > end:
                raise InstanceRefused(f"the data set ends within an element header, at byte {position}")
            group, element, representation, length = read_short(data, position)
            tag = group << 16 | element
            self.count()
            start = position + 8
            if implicit or group == 0xFFFE:
                (length,) = read_long(data, position + 4)
                representation = b""
            elif representation in _LONG_LENGTH:
                if position + 12 > end:
                    raise InstanceRefused(f"the data set ends within an element header, at byte {position}")
                (length,) = read_long(data, position + 8)
                start += 4
            if tag == _ITEM_END and depth:
                return start
            if length == _UNDEFINED:
                position = self.undefined(tag, representation, start, end, depth, implicit=implicit)
                if tag == PIXEL_DATA and depth == 0:
                    self.pixel_bytes = position - start
            else:
                position = start + length
                if position > end:
                    raise InstanceRefused(
                        f"element ({group:04X},{element:04X}) at byte {start} says {length} bytes, "
                        f"the data set has {end - start} more"
                    )
            if depth == 0:
                self.keep(tag, start, position, defined=length != _UNDEFINED)
                self.reached = position - self.offset
        if depth:
            raise InstanceRefused("the data set ends within a sequence item")
        return position

    def undefined(
        self, tag: int, representation: bytes, position: int, end: int, depth: int, *, implicit: bool
    ) -> int:
        """Walks the items of a sequence (or fragments of pixel data) of undefined length; returns what follows."""
        read_item = _STRUCTS[self.transfer_syntax_uid == EXPLICIT_BIG_ENDIAN][2]
        inner_implicit = (
            implicit or representation == b"UN"
        )  # PS3.5 6.2.2: UN of undefined length is implicit VR
        fragments = tag == PIXEL_DATA
        while True:
            if position + 8 > end:
                raise InstanceRefused(
                    f"the data set ends within sequence ({tag >> 16:04X},{tag & 0xFFFF:04X})"
                )
            group, element, length = read_item(self.data, position)
            self.count()
            position += 8
            item = group << 16 | element
            if item == _SEQUENCE_END:
                return position
            if item != _ITEM or (fragments and length == _UNDEFINED):
                raise InstanceRefused(
                    f"sequence ({tag >> 16:04X},{tag & 0xFFFF:04X}) holds ({group:04X},{element:04X}) at byte {position - 8}, "
                    "expected an item"
                )
            if length == _UNDEFINED:
                position = self.elements(position, end, depth + 1, implicit=inner_implicit)
            else:
                position += length
            if position > end:
                raise InstanceRefused(
                    f"an item of ({tag >> 16:04X},{tag & 0xFFFF:04X}) goes beyond the data set's end"
                )

    def count(self) -> None:
        """Counts one element or item against the cap."""
        self.walked += 1
        if self.walked > MAXIMUM_ELEMENTS:
            raise InstanceRefused(f"the data set has more than {MAXIMUM_ELEMENTS} elements")

    def keep(self, tag: int, start: int, end: int, *, defined: bool) -> None:
        """Copies a wanted value of bounded length."""
        if tag in _WANTED and end - start <= _MAXIMUM_VALUE_BYTES:
            self.values[tag] = bytes(self.data[start:end])
        elif tag == CONTRIBUTING_EQUIPMENT_SEQUENCE:
            self.equipment = bytes(self.data[start : min(end, start + _MAXIMUM_EQUIPMENT_BYTES)])
        elif tag in _PIXELS and defined:
            self.pixel_bytes = end - start

    def text(self, tag: int) -> str:
        """Returns a value as text, without padding; "" when absent."""
        return self.values.get(tag, b"").decode("ascii", errors="replace").strip(" \0")

    def uid(self, tag: int, name: str) -> str:
        """Returns a UID that must be there."""
        value = self.text(tag)
        if not _UID.fullmatch(value) or len(value) > 64:
            raise InstanceRefused(f"the data set has no valid {name}: {value!r}")
        return value

    def number(self, tag: int) -> int | None:
        """Returns an unsigned short; None when absent."""
        value = self.values.get(tag, b"")
        if len(value) != 2:
            return None
        return int.from_bytes(value, "big" if self.transfer_syntax_uid == EXPLICIT_BIG_ENDIAN else "little")

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Returns the values of a Decimal String; empty when absent or not numbers."""
        try:
            return tuple(float(part) for part in self.text(tag).split("\\"))
        except ValueError:
            return ()


def _project_position(position: tuple[float, ...], orientation: tuple[float, ...]) -> float | None:
    """Returns the position along the slice normal, mm, to 0.01 mm."""
    if len(position) != 3 or len(orientation) != 6:
        return None
    row, column = orientation[:3], orientation[3:]
    normal = (
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    )
    distance = sum(a * b for a, b in zip(position, normal, strict=True))
    return round(distance, 2) if math.isfinite(distance) else None


def _read_frames(text: str) -> int:
    if not text.isdecimal():
        return 1
    frames = int(text)
    if frames > MAXIMUM_FRAMES:
        raise InstanceRefused(f"the data set says {text} frames, at most {MAXIMUM_FRAMES} are taken")
    return max(1, frames)


def _check_pixels(walk: _Walk, identity: Identity) -> None:
    """Refuses a data set that describes an image and ends before its pixels do."""
    rows, columns = walk.number(ROWS), walk.number(COLUMNS)
    if not rows or not columns:
        if identity.sop_class_uid in _IMAGE_CLASSES:
            raise InstanceRefused("the data set is of an image class and ends before Rows and Columns")
        return
    if walk.pixel_bytes is None:
        raise InstanceRefused(f"the data set says {rows} x {columns} pixels and ends before them")
    bits, samples = walk.number(BITS_ALLOCATED), walk.number(SAMPLES_PER_PIXEL)
    if walk.transfer_syntax_uid in NATIVE and bits and samples == 1:
        expected = (rows * columns * identity.frames * bits + 7) // 8
        if walk.pixel_bytes < expected:
            raise InstanceRefused(f"the data set has {walk.pixel_bytes} bytes of pixels, expected {expected}")
