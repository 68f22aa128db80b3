"""Makes one volume of Hounsfield units from the images of one acquisition, or refuses with the numbers."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import iter_pixels

from engines.volume import Volume
from node.dicom.headers import READ_FAULTS
from node.dicom.values import parse_numbers
from node.errors import SeriesRefused
from node.stacking import stack_slices
from node.study import Acquisition, Instance

AIR_HU = -1024
"""What padding becomes, and the lowest value kept: nothing in a CT is less dense than air (-1000 HU by definition)."""
_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
"""Markers SOI and EOI of the JPEG family (ITU-T T.81 table B.1)."""
_PIXEL_DESCRIPTION = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)
"""What a CT image needs before its pixels can be read. Source: PS3.3 C.7.6.3 (all of type 1 or 1C), C.8.2.1."""
_MOST_STORED = 65535
"""Largest stored value: 16 bits."""
_MOST_SCALED = 2**31 - 1
"""What 32 bits hold; no scale of Hounsfield units comes near (OURS)."""
HIGHEST_HU = 32767
"""Largest value of the int16 volumes; only metal on an extended scale lies above it, and is clipped to it."""


def read_volume(acquisition: Acquisition) -> Volume:
    """Returns the acquisition's pixels as int16 Hounsfield units on its native grid.

    Rescale slope and intercept are applied image by image; padding and values below air become -1024 HU. Compressed
    transfer syntaxes (RLE, JPEG lossless, JPEG-LS, JPEG 2000) are decoded. Nothing is interpolated.

    Args:
        acquisition: as split by ``node.phases.acquisitions``.

    Raises:
        SeriesRefused: the images do not make a volume (see ``stack_slices``), are too large, are not Hounsfield units,
            or their pixels cannot be decoded.
    """
    stacking = stack_slices(acquisition)
    array = np.empty(stacking.grid.shape, dtype=np.int16)
    rank_of_frame: dict[Path, list[tuple[int, Instance]]] = {}
    for rank, instance in enumerate(stacking.order):
        rank_of_frame.setdefault(instance.path, []).append((rank, instance))
    for path, members in rank_of_frame.items():
        try:
            _read_file(path, members, array)
        except (SeriesRefused, *READ_FAULTS, RuntimeError) as fault:
            if isinstance(fault, SeriesRefused):
                raise
            raise SeriesRefused(
                f"{acquisition.label}: pixels of {members[0][1].sop_instance_uid} cannot be decoded: "
                f"{type(fault).__name__}: {fault}"
            ) from fault
    return Volume(array=array, grid=stacking.grid)


def _read_file(path: Path, members: list[tuple[int, Instance]], array: npt.NDArray[np.int16]) -> None:
    """Decodes the wanted frames of one file into their places of the volume."""
    with path.open("rb") as stream:
        dataset = dcmread(stream)
        _check_pixels(dataset, members[0][1])
        _check_codestreams(dataset, members[0][1])
        whole = members[0][1].frame_number == 0
        wanted = [0] if whole else [instance.frame_number - 1 for _, instance in members]
        frames = iter_pixels(dataset, indices=wanted, raw=True)
        for (rank, instance), stored in zip(members, frames, strict=True):
            array[rank] = _hounsfield(stored, _scaling(dataset, instance), instance)


def _check_pixels(dataset: Dataset, instance: Instance) -> None:
    """Refuses a pixel description that differs from the header read at first, or is no grey CT image."""
    uid = instance.sop_instance_uid
    absent = [keyword for keyword in _PIXEL_DESCRIPTION if dataset.get(keyword) is None]
    if absent:
        raise SeriesRefused(f"{uid}: no whole number pixels: {', '.join(absent)} missing")
    if (int(dataset.Rows), int(dataset.Columns)) != (instance.rows, instance.columns):
        raise SeriesRefused(f"{uid}: the file changed since its header was read")
    if int(dataset.SamplesPerPixel) != 1 or dataset.PhotometricInterpretation != "MONOCHROME2":
        raise SeriesRefused(
            f"{uid}: {dataset.SamplesPerPixel} samples of {dataset.PhotometricInterpretation}; expected 1 of MONOCHROME2"
        )
    if int(dataset.BitsAllocated) not in (8, 16) or int(dataset.HighBit) != int(dataset.BitsStored) - 1:
        raise SeriesRefused(
            f"{uid}: {dataset.BitsStored} bits with high bit {dataset.HighBit} in {dataset.BitsAllocated}; "
            "expected 8 or 16 allocated bits and the high bit at the end of the stored ones"
        )


def _check_codestreams(dataset: Dataset, instance: Instance) -> None:
    """Refuses a compressed image whose own header claims another size, which its decoder would allocate, and one cut short.

    Decoders of the JPEG family fill up a codestream that ends early, without a word (JPEG-LS by pylibjpeg or pyjpegls:
    run). Those of JPEG 2000 and RLE refuse it themselves.

    Source: ITU-T T.81 B.1.1.3 and T.87 C.1 (End of Image); PS3.5 A.4 (padded with a zero byte to even length).
    """
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    for frame in generate_frames(dataset.PixelData, number_of_frames=count):
        if frame[:2] == _START_OF_IMAGE and not frame.rstrip(b"\0").endswith(_END_OF_IMAGE):
            raise SeriesRefused(
                f"{instance.sop_instance_uid}: the compressed image is cut short: {len(frame)} bytes without an end"
            )
        size = _codestream_size(frame)
        if size is not None and size != (instance.rows, instance.columns):
            raise SeriesRefused(
                f"{instance.sop_instance_uid}: compressed image of {size[0]} x {size[1]}, header says "
                f"{instance.rows} x {instance.columns}"
            )


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Returns (rows, columns) of a JPEG 2000 or JPEG family codestream, None for RLE (which has no size of its own).

    Source: ITU-T T.800 A.5.1 (SIZ), ITU-T T.81 B.2.2 (SOF), ITU-T T.87 C.2.2 (SOF55).
    """
    if frame[:4] == b"\xff\x4f\xff\x51":
        width, height, left, top = struct.unpack(">IIII", frame[8:24])
        return height - top, width - left
    if frame[:2] != _START_OF_IMAGE:
        return None
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        length = int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">HH", frame[place + 5 : place + 9])
            return rows, columns
        place += 2 + length
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaling:
    """How stored values become Hounsfield units."""

    slope: float
    intercept: float
    padding: tuple[int, int] | None


def _scaling(dataset: Dataset, instance: Instance) -> _Scaling:
    """Reads rescale slope, intercept and padding of an image or a frame."""
    holder: Any = dataset
    if instance.frame_number:
        groups = [dataset.PerFrameFunctionalGroupsSequence[instance.frame_number - 1]]
        groups += list(dataset.get("SharedFunctionalGroupsSequence", []))
        holder = next(
            (
                g.PixelValueTransformationSequence[0]
                for g in groups
                if "PixelValueTransformationSequence" in g
            ),
            dataset,
        )
    slope, intercept = _number(holder.get("RescaleSlope")), _number(holder.get("RescaleIntercept"))
    if slope is None or intercept is None or slope <= 0:
        given, beside = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
        raise SeriesRefused(
            f"{instance.sop_instance_uid}: rescale slope {given} and intercept {beside}; expected one number each, "
            "the slope above 0"
        )
    if slope * _MOST_STORED + abs(intercept) > _MOST_SCALED:
        raise SeriesRefused(
            f"{instance.sop_instance_uid}: rescale slope {slope:g} and intercept {intercept:g} give no Hounsfield units"
        )
    padding = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    pad = (min(int(padding), int(limit)), max(int(padding), int(limit))) if padding is not None else None
    return _Scaling(slope=slope, intercept=intercept, padding=pad)


def _number(value: object) -> float | None:
    """A single finite decimal string, or None."""
    numbers = parse_numbers([str(value)])
    return None if numbers is None else numbers[0]


def _hounsfield(stored: npt.NDArray[Any], scaling: _Scaling, instance: Instance) -> npt.NDArray[np.int16]:
    """Returns one image in Hounsfield units.

    Source: PS3.3 C.11.1 (modality transform), C.7.5.1.1.2 (pixel padding).
    """
    if stored.shape != (instance.rows, instance.columns):
        raise SeriesRefused(
            f"{instance.sop_instance_uid}: decoded {stored.shape}, header says {instance.rows} x {instance.columns}"
        )
    if scaling.slope == int(scaling.slope) and scaling.intercept == int(scaling.intercept):
        values = stored.astype(np.int32) * int(scaling.slope) + int(scaling.intercept)
    else:
        values = np.rint(stored * scaling.slope + scaling.intercept).astype(np.int32)
    if scaling.padding is not None:
        values[(stored >= scaling.padding[0]) & (stored <= scaling.padding[1])] = AIR_HU
    clipped: npt.NDArray[np.int16] = np.clip(values, AIR_HU, HIGHEST_HU).astype(np.int16)
    return clipped
