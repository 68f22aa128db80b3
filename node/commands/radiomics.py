"""``mmf-node radiomics``: the features of one region under pyradiomics' names, and how far they can be trusted."""

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.errors import InvalidInput
from node.log import configure_log

if TYPE_CHECKING:
    from engines.radiomics.features import FeatureTable, MaskSource
    from engines.radiomics.stability import Stability
    from engines.volume import Volume

ImageArgument = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE",
        help="NIfTI, NRRD or MetaImage file, or a folder with one DICOM CT series.",
        exists=True,
    ),
]
MaskArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MASK",
        help="Label image on the image's grid, or a DICOM SEG file.",
        exists=True,
        dir_okay=False,
    ),
]
LabelOption = Annotated[
    int | None,
    typer.Option(
        "--label", metavar="N", min=1, help="Label or segment number; the settings' label if not given."
    ),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings", metavar="FILE", help="Settings in pyradiomics' format; else conf/radiomics.yaml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
PerturbOption = Annotated[
    bool,
    typer.Option("--perturb", help="Also change mask and grid a little, and mark the features that follow."),
]
StockOption = Annotated[
    bool, typer.Option("--stock", help="Let pyradiomics itself measure, on the same grid.")
]
ProviderOption = Annotated[
    str | None,
    typer.Option("--mask-provider", metavar="NAME", help="Who drew the mask; a DICOM SEG says so itself."),
]
VersionOption = Annotated[
    str | None, typer.Option("--mask-version", metavar="VERSION", help="Version of the mask's provider.")
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Input:
    """What the files hold."""

    image: "Volume"
    mask: "Volume"
    label: int
    source: "MaskSource"


def radiomics(
    image: ImageArgument,
    mask: MaskArgument,
    label: LabelOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    perturb: PerturbOption = False,
    stock: StockOption = False,
    mask_provider: ProviderOption = None,
    mask_version: VersionOption = None,
) -> None:
    """Measures the radiomic features of one region of one image."""
    from dataclasses import replace

    from engines.configuration import find_conf
    from engines.radiomics.features import Extractor, MaskSource, extract_region
    from engines.radiomics.settings import read_settings
    from engines.radiomics.stability import judge_stability

    configure_log("plain", logging.WARNING)
    chosen = read_settings(find_conf("radiomics.yaml", settings))
    read = _read_input(image, mask, chosen.label if label is None else label)
    source = MaskSource(
        provider=mask_provider or read.source.provider, version=mask_version or read.source.version
    )
    chosen = replace(chosen, label=read.label)
    table = extract_region(
        read.image,
        read.mask,
        chosen,
        region=f"label {read.label}",
        source=source,
        extractor=Extractor.PYRADIOMICS if stock else Extractor.FAST,
    )
    stability = judge_stability(read.image, read.mask, chosen) if perturb else ()
    if as_json:
        typer.echo(json.dumps(describe(table, stability), indent=1, ensure_ascii=False))
    else:
        typer.echo(draw(table, stability))
    if chosen.left_to_pyradiomics is not None:
        typer.echo(f"measured by pyradiomics itself: {chosen.left_to_pyradiomics}", err=True)


def describe(table: "FeatureTable", stability: "tuple[Stability, ...]" = ()) -> dict[str, Any]:
    """Returns the JSON of a table: one object a value, each with all it depends on; NaN becomes null.

    Args:
        table: of one region.
        stability: of its features, or nothing.
    """
    from engines.radiomics.feature_file import describe_line

    judged = {item.name: item for item in stability}
    features = []
    for value in table.values:
        line = asdict(describe_line(value))
        line["value"] = None if math.isnan(value.value) else value.value
        if value.name in judged:
            found = asdict(judged[value.name])
            line |= {name: found[name] for name in ("mask_change", "grid_change", "fragile")}
        features.append(line)
    return {"features": features}


def draw(table: "FeatureTable", stability: "tuple[Stability, ...]" = ()) -> str:
    """Returns the table as text: what it depends on, then one line a feature.

    Args:
        table: of one region, with at least one value.
        stability: of its features, or nothing; fragile ones are marked.
    """
    from engines.radiomics.feature_file import describe_line

    if not table.values:
        return "the settings ask for no feature"
    first = describe_line(table.values[0])
    provider = f"{first.mask_provider} {first.mask_version}".strip()
    lines = [
        f"extractor  {first.extractor}",
        f"settings   sha256 {first.settings_sha256}",
        f"grid       {first.grid}",
        f"mask       {first.region}, {provider}",
        "",
    ]
    width = max(len(value.name) for value in table.values)
    judged = {item.name: item for item in stability}
    if judged:
        lines.append(f"{'':{width}}  {'value':>22}  {'mask ±1 layer':>13}  {'grid ±1/2':>9}")
    for value in table.values:
        line = f"{value.name:{width}}  {value.value!r:>22}"
        item = judged.get(value.name)
        if item is not None:
            mark = "  FRAGILE" if item.fragile else ""
            line += f"  {_share(item.mask_change):>13}  {_share(item.grid_change):>9}{mark}"
        lines.append(line)
    if judged:
        fragile = sum(item.fragile for item in judged.values())
        lines += ["", f"{fragile} of {len(judged)} features move by more than 10 % and are marked FRAGILE."]
    return "\n".join(lines)


def _share(change: float | None) -> str:
    return "-" if change is None else f"{100 * change:.1f} %"


def _read_input(image: Path, mask: Path, label: int) -> _Input:
    from engines.radiomics.features import UNKNOWN_SOURCE, MaskSource
    from node.dicom.segments import is_dicom, read_segment

    volume = _read_series(image) if image.is_dir() else _read_image(image, "the image")
    if is_dicom(mask):
        segment = read_segment(mask, label, volume.grid)
        return _Input(
            image=volume,
            mask=_number(segment.mask, label),
            label=label,
            source=MaskSource(provider=segment.provider, version=segment.version)
            if segment.provider
            else UNKNOWN_SOURCE,
        )
    return _Input(image=volume, mask=_read_mask(mask), label=label, source=UNKNOWN_SOURCE)


def _read_series(folder: Path) -> "Volume":
    """Returns the one acquisition of a folder.

    Raises:
        InvalidInput: the folder holds none or several.
    """
    from node.dicom.headers import read_folder
    from node.dicom.volumes import read_volume
    from node.phases.acquisitions import split_acquisitions
    from node.study import CT_STORAGE

    instances, _ = read_folder(folder)
    images = [instance for instance in instances if instance.sop_class_uid in CT_STORAGE]
    acquisitions = split_acquisitions(images)
    if len(acquisitions) != 1:
        found = ", ".join(acquisition.label for acquisition in acquisitions) or "none"
        raise InvalidInput(f"{folder} must hold one CT acquisition, found {len(acquisitions)}: {found}")
    return read_volume(acquisitions[0])


def _read_image(path: Path, name: str) -> "Volume":
    import SimpleITK as sitk

    from engines.volume import Volume

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InvalidInput(f"{name} {path} cannot be read as NIfTI, NRRD or MetaImage") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InvalidInput(
            f"{name} {path} has {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()}"
            " components, a scalar volume expected"
        )
    return Volume.of_image(image)


def _read_mask(path: Path) -> "Volume":
    """Returns a label image; whole numbers stored as floats are labels too."""
    import numpy as np

    from engines.volume import Volume

    mask = _read_image(path, "the mask")
    if mask.array.dtype.kind != "f":
        return mask
    if not np.isfinite(mask.array).all() or (mask.array != np.rint(mask.array)).any():
        raise InvalidInput(f"the mask {path} holds fractions; labels are whole numbers")
    return Volume(array=mask.array.astype(np.int32), grid=mask.grid)


def _number(mask: "Volume", label: int) -> "Volume":
    """Returns a bool mask as labels of one number."""
    import numpy as np

    from engines.volume import Volume

    return Volume(array=mask.array.astype(np.int32) * label, grid=mask.grid)
