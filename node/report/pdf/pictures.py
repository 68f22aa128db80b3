"""The page of pictures: for each phase the slices that show tumour and liver best, plain and outlined."""

from dataclasses import replace
from typing import Final

import numpy as np
import SimpleITK as sitk

from engines.phase import Phase
from engines.plots import MUTED, Outline, SlicePicture, plot_slice
from engines.volume import Volume, resample
from node.report.pdf.paper import CONTENT_MM, MARGIN_MM, Paper, bytes_of
from node.report.segments import LIVER_NAME, TUMOUR_NAME, BoolArray, PhaseMasks, Segment
from node.report.slices import largest_plane
from node.report.sources import ReportSources, SaliencyMap, UsedAcquisition

_GAP_MM: Final = 3.0
_BODY_HU: Final = -300.0
"""What is denser belongs to the body or the table (OURS)."""

_ZOOM_MARGIN_MM: Final = 25.0
"""Surroundings shown about the liver (OURS)."""

_SALIENCY_WORDS: Final = (
    "Activation maps (HiResCAM) show what each network looked at, not a finding; research use. Coloured is what raised the"
    " network's risk for this endpoint, from dark (weak) to yellow (the strongest place of this map); the colours of two"
    " maps cannot be compared. A map does not outline a tumour, and a coloured place need not be diseased. The slice is the"
    " one where the three maps together are strongest inside the liver."
)


def draw_pictures(
    paper: Paper,
    sources: ReportSources,
    masks: dict[Phase, PhaseMasks],
) -> None:
    """Draws the key slices of every phase used, one phase a column.

    Args:
        paper: at the top of a fresh page.
        sources: volumes, and activation maps where they were made.
        masks: the structures that were outlined, by phase.
    """
    shown = [used for used in sources.used if used.phase in masks]
    if not shown:
        return
    segments = masks[shown[0].phase].segments
    outlined = tuple(segment for segment in segments if segment.structure.name in (LIVER_NAME, TUMOUR_NAME))
    rows: list[tuple[str, str, bool, bool]] = []
    if any(segment.structure.name == TUMOUR_NAME for segment in segments):
        rows.append(("Largest section of the tumour", TUMOUR_NAME, True, False))
        rows.append(("The same section, outlined", TUMOUR_NAME, True, True))
    rows.append(("Largest section of the liver, outlined", LIVER_NAME, False, True))
    for title, name, zoom, lines in rows:
        _draw_row(
            paper,
            title,
            shown,
            [
                _picture(used, masks[used.phase], name, zoom=zoom, outlined=outlined if lines else ())
                for used in shown
            ],
        )
    _draw_legend(paper, outlined)
    _draw_saliency(paper, sources, masks, outlined)


def _draw_row(
    paper: Paper, title: str, shown: list[UsedAcquisition], pictures: list[tuple[int, SlicePicture] | None]
) -> None:
    width = (CONTENT_MM - _GAP_MM * 2) / 3
    drawn = [None if found is None else plot_slice(found[1], width_mm=width) for found in pictures]
    tallest = max((height for _, height in (entry for entry in drawn if entry is not None)), default=0.0)
    if tallest == 0.0:
        return
    if paper.pdf.get_y() + tallest + 12.0 > paper.bottom_mm:
        paper.start_page()
    paper.pdf.set_x(MARGIN_MM)
    paper.write_heading(title)
    top = paper.pdf.get_y()
    for column, (used, entry) in enumerate(zip(shown, drawn, strict=True)):
        x = MARGIN_MM + column * (width + _GAP_MM)
        if entry is not None:
            paper.pdf.image(entry[0], x=x, y=top, w=width, h=entry[1])
        paper.pdf.set_xy(x, top + tallest + 0.4)
        found = pictures[column]
        where = (
            "not in this phase" if found is None else f"slice {found[0] + 1} of {used.volume.grid.shape[0]}"
        )
        series = "–" if used.acquisition.first.series_number is None else used.acquisition.first.series_number
        paper.write_line(
            f"{used.phase.value.replace('_', ' ').lower()}, series {series}, {where}",
            points=6.6,
            colour=MUTED,
            width_mm=width,
            height_mm=3.6,
            align="C",
        )
    paper.pdf.set_xy(MARGIN_MM, top + tallest + 6.0)


def _picture(
    used: UsedAcquisition,
    masks: PhaseMasks,
    name: str,
    *,
    zoom: bool,
    outlined: tuple[Segment, ...],
) -> tuple[int, SlicePicture] | None:
    """The plane where the structure ``name`` is largest, and how it is shown; None where the structure is empty."""
    mask = masks.named(name)
    plane = None if mask is None else largest_plane(mask)
    if mask is None or plane is None:
        return None
    volume = used.volume
    liver = masks.named(LIVER_NAME)
    around = np.logical_or.reduce(mask if liver is None or not liver.any() else liver, axis=0)
    return plane, SlicePicture(
        plane=volume.array[plane],
        spacing_mm=volume.grid.spacing_mm[1:],
        row_axis=volume.grid.axes[1],
        column_axis=volume.grid.axes[2],
        box=_box(around, volume, _ZOOM_MARGIN_MM) if zoom else _box(_body(volume, plane), volume, 8.0),
        outlines=tuple(Outline(mask=masks.of(segment)[plane], colour=segment.rgb) for segment in outlined),
    )


def _body(volume: Volume, plane: int) -> BoolArray:
    """The body on one plane without the table: the largest connected part."""
    dense = sitk.GetImageFromArray((volume.array[plane] > _BODY_HU).astype(np.uint8))
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(dense))
    body: BoolArray = sitk.GetArrayFromImage(parts) == 1
    return body if body.any() else np.ones(body.shape, dtype=np.bool_)


def _box(mask: BoolArray, volume: Volume, margin_mm: float) -> tuple[int, int, int, int]:
    """Rows and columns around ``mask`` with a margin, in the proportion 3:4 where the plane allows it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    row_mm, column_mm = volume.grid.spacing_mm[1:]
    height = (rows[-1] - rows[0] + 1) * row_mm + 2 * margin_mm
    width = (columns[-1] - columns[0] + 1) * column_mm + 2 * margin_mm
    width, height = max(width, height * 4 / 3), max(height, width * 3 / 4)
    top, bottom = _span((rows[0] + rows[-1]) / 2, height / row_mm, mask.shape[0])
    left, right = _span((columns[0] + columns[-1]) / 2, width / column_mm, mask.shape[1])
    return top, bottom, left, right


def _span(centre: float, length: float, size: int) -> tuple[int, int]:
    """First and past-last index of ``length`` pixels about ``centre``, moved inside 0..size."""
    count = min(size, round(length))
    first = min(max(0, round(centre - count / 2)), size - count)
    return first, first + count


def _draw_saliency(
    paper: Paper,
    sources: ReportSources,
    masks: dict[Phase, PhaseMasks],
    outlined: tuple[Segment, ...],
) -> None:
    """Draws the activation maps of the networks on one portal-venous slice an endpoint, overall survival first."""
    used = sources.acquisition(Phase.PORTAL_VENOUS)
    if not sources.saliency or used is None or used.phase not in masks:
        return
    paper.start_page()
    for endpoint in ("OS", "PFS"):
        maps = [entry for entry in sources.saliency if entry.endpoint == endpoint][:3]
        if not maps:
            continue
        mean = np.mean(np.stack([entry.volume.array for entry in maps]), axis=0)
        plane = _brightest_plane(used, masks[used.phase], Volume(array=mean, grid=maps[0].volume.grid))
        pictures = [_saliency_picture(used, masks[used.phase], entry, plane, outlined) for entry in maps]
        width = (CONTENT_MM - _GAP_MM * 2) / 3
        drawn = [plot_slice(picture, width_mm=width) for picture in pictures]
        tallest = max(height for _, height in drawn)
        paper.ensure(tallest + 12.0)
        paper.pdf.set_x(MARGIN_MM)
        paper.write_heading(
            f"Where the networks looked, {endpoint} (portal venous phase, slice {plane + 1} of {used.volume.grid.shape[0]})"
        )
        top = paper.pdf.get_y()
        for column, (entry, (image, height)) in enumerate(zip(maps, drawn, strict=True)):
            x = MARGIN_MM + column * (width + _GAP_MM)
            paper.pdf.image(image, x=x, y=top, w=width, h=height)
            paper.pdf.set_xy(x, top + tallest + 0.4)
            words = f"{entry.network}: nothing raises the risk"
            if entry.volume.array.any():
                strongest = _brightest_plane(used, masks[used.phase], entry.volume)
                words = f"{entry.network}, strongest on slice {strongest + 1}"
            paper.write_line(words, points=6.6, colour=MUTED, width_mm=width, height_mm=3.6, align="C")
        paper.pdf.set_xy(MARGIN_MM, top + tallest + 6.0)
    paper.write_block(_SALIENCY_WORDS, points=6.8, colour=MUTED)
    paper.pdf.set_xy(MARGIN_MM, paper.pdf.get_y() + 2.0)
    _draw_legend(paper, outlined)


def _brightest_plane(used: UsedAcquisition, masks: PhaseMasks, volume: Volume) -> int:
    """The plane where a map is strongest inside the liver."""
    heat = resample(volume, used.volume.grid, outside=0.0).array
    liver = masks.named(LIVER_NAME)
    weight = heat if liver is None or not liver.any() else heat * liver
    return int(weight.sum(axis=(1, 2)).argmax())


def _saliency_picture(
    used: UsedAcquisition,
    masks: PhaseMasks,
    entry: SaliencyMap,
    plane: int,
    outlined: tuple[Segment, ...],
) -> SlicePicture:
    """One plane with the map over it; only this plane of the map is interpolated."""
    volume = used.volume
    liver = masks.named(LIVER_NAME)
    around = np.ones(volume.grid.shape[1:], dtype=np.bool_)
    if liver is not None and liver.any():
        around = np.logical_or.reduce(liver, axis=0)
    x, y, z = (float(c) for c in (volume.grid.affine() @ [plane, 0, 0, 1])[:3])
    grid = replace(volume.grid, shape=(1, *volume.grid.shape[1:]), origin_mm=(x, y, z))
    return SlicePicture(
        plane=volume.array[plane],
        spacing_mm=volume.grid.spacing_mm[1:],
        row_axis=volume.grid.axes[1],
        column_axis=volume.grid.axes[2],
        box=_box(around, volume, _ZOOM_MARGIN_MM),
        outlines=tuple(Outline(mask=masks.of(segment)[plane], colour=segment.rgb) for segment in outlined),
        heat=resample(entry.volume, grid, outside=0.0).array[0],
    )


def _draw_legend(paper: Paper, outlined: tuple[Segment, ...]) -> None:
    pdf = paper.pdf
    y = pdf.get_y()
    if y + 5.0 > paper.bottom_mm:
        return
    place = MARGIN_MM
    for segment in outlined:
        pdf.set_draw_color(*bytes_of(segment.rgb))
        pdf.set_line_width(0.7)
        pdf.line(place, y + 2.0, place + 7.0, y + 2.0)
        pdf.set_xy(place + 8.0, y)
        words = (
            f"{segment.label}, {segment.structure.volume_ml:.1f} mL, outlined by {segment.structure.provider}"
        )
        paper.write_line(words, points=6.8, colour=MUTED, width_mm=68.0, height_mm=4.0)
        place += 76.0
    pdf.set_xy(place, y)
    paper.write_line(
        "Window -110 to 240 HU",
        points=6.8,
        colour=MUTED,
        width_mm=CONTENT_MM - 152.0,
        height_mm=4.0,
        align="R",
    )
    pdf.set_xy(MARGIN_MM, y + 6.0)
