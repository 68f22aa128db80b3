"""What the images of a study give: volumes, alignments, masks, features. Stages of the pipeline, each kept in the case folder."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import SimpleITK as sitk
from pydantic import TypeAdapter

from engines.case import write_image, write_transform
from engines.errors import InvalidInput, NoLiverFound, RegistrationRefused, SegmentationRefused
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE, Phase
from engines.radiomics.feature_file import write_features
from engines.radiomics.features import MaskSource, extract_features
from engines.registration import AlignmentQuality, align, invert
from engines.segmentation.lesions import PRIMARY_TUMOUR, measure_lesions
from engines.segmentation.quality import check_segmentation
from node.conclusion import SegmentedLiver, flag_diameter
from node.dicom.volumes import read_volume
from node.errors import SeriesRefused
from node.report.record import NotAssessable, ReasonCode
from node.study import Acquisition
from node.walk import Walk, digest_acquisition

FEATURES = "features"
"""The step that measures radiomic features; an MMF with the Radiomic score rests on it."""


def read_phases(walk: Walk) -> NotAssessable | None:
    """The pixels of the three phases, as Hounsfield units on their native grids."""
    chosen = _chosen(walk)
    words = [
        version("mmf-node"),
        *(word for phase in ASSESSED_PHASES for word in digest_acquisition(chosen[phase])),
    ]

    def produce() -> None:
        for phase in ASSESSED_PHASES:
            walk.volumes[phase] = read_volume(chosen[phase])
            write_image(walk.volumes[phase], walk.case.volume_path(phase))

    try:
        outputs = [walk.case.volume_path(phase) for phase in ASSESSED_PHASES]
        walk.steps.run("volumes", words, produce, TypeAdapter(None), outputs)
    except SeriesRefused as refused:
        return NotAssessable(code=ReasonCode.VOLUME_REFUSED, reason=str(refused))
    for phase in ASSESSED_PHASES:
        if phase not in walk.volumes:
            walk.volumes[phase] = walk.case.read_volume(phase)
    return None


def align_phases(walk: Walk) -> NotAssessable | None:
    """Arterial and delayed are laid on the portal venous phase; a poor fit is a reason to stop."""
    fixed = walk.volumes[REFERENCE_PHASE]
    walk.transforms[REFERENCE_PHASE] = sitk.Transform(3, sitk.sitkIdentity)
    for phase in ASSESSED_PHASES:
        if phase == REFERENCE_PHASE:
            continue
        path = walk.case.transform_path(phase)

        def produce(phase: Phase = phase, path: Path = path) -> AlignmentQuality:
            alignment = align(walk.volumes[phase], fixed)
            write_transform(alignment.transform, path)
            return alignment.quality

        try:
            walk.registration[phase] = walk.steps.run(
                f"align-{phase.value}",
                [version("mmf-node"), walk.steps.digest("volumes")],
                produce,
                TypeAdapter(AlignmentQuality),
                [path],
            )
        except RegistrationRefused as refused:
            return NotAssessable(code=ReasonCode.POOR_REGISTRATION, reason=f"{phase.value}: {refused}")
        walk.transforms[phase] = walk.case.read_transform(phase)
        walk.inverses[phase] = invert(walk.transforms[phase], fixed.grid)
    return None


def segment_liver(walk: Walk) -> NotAssessable | None:
    """Liver and lesions on the portal venous grid; an implausible liver is a reason to stop."""
    case = walk.case

    def produce() -> SegmentedLiver:
        volume = walk.volumes[REFERENCE_PHASE]
        found = walk.tools.segmenter.segment(volume)
        quality = check_segmentation(found, volume)
        write_image(found.liver, case.mask_path("liver"))
        write_image(found.lesions, case.mask_path("lesions"))
        return SegmentedLiver(
            provider=found.provider,
            version=found.version,
            liver_ml=quality.liver_volume_ml,
            lesions=measure_lesions(found.lesions),
        )

    try:
        walk.segmented = walk.steps.run(
            "segment",
            [
                version("mmf-node"),
                walk.tools.segmenter.provider,
                walk.tools.segmenter.version,
                walk.steps.digest("volumes"),
            ],
            produce,
            TypeAdapter(SegmentedLiver),
            [case.mask_path("liver"), case.mask_path("lesions")],
        )
    except NoLiverFound as refused:
        return NotAssessable(code=ReasonCode.NO_LIVER, reason=str(refused))
    except SegmentationRefused as refused:
        return NotAssessable(code=ReasonCode.IMPLAUSIBLE_LIVER, reason=str(refused))
    walk.flags += flag_diameter(walk.row, walk.segmented)
    liver = case.read_mask("liver")
    walk.liver = replace(liver, array=liver.array.astype(bool))
    walk.lesions = case.read_mask("lesions")
    if not walk.segmented.lesions:
        walk.flags.append(
            "no tumour was found by the segmentation; tumour measurements and features are missing"
        )
    return None


def measure_features(walk: Walk) -> NotAssessable | None:
    """Radiomic features of liver and primary tumour in every phase, into features.csv; what cannot be measured is flagged.

    Source: method, section 7 (liver and primary tumour); the primary tumour is the largest lesion (OURS).
    """
    settings = walk.tools.radiomics
    if settings is None or walk.liver is None or walk.lesions is None or walk.segmented is None:
        return None
    regions = {"liver": walk.liver}
    if walk.segmented.lesions:
        regions["tumour"] = replace(walk.lesions, array=walk.lesions.array == PRIMARY_TUMOUR)
    source = MaskSource(provider=walk.segmented.provider, version=walk.segmented.version)

    def produce() -> tuple[str, ...]:
        table = extract_features(
            walk.volumes, walk.transforms, regions, settings, sources=dict.fromkeys(regions, source)
        )
        write_features(table, walk.case.features_path)
        return tuple(
            f"radiomics of {one.region} in {one.phase or 'any phase'}: {one.reason}" for one in table.refusals
        )

    walk.flags += walk.steps.run(
        FEATURES,
        [version("mmf-node"), settings.sha256, *list_placements(walk)],
        produce,
        TypeAdapter(tuple[str, ...]),
        [walk.case.features_path],
    )
    return None


def list_placements(walk: Walk) -> list[str]:
    """Returns what every derived grid depends on: the digests of pixels, alignments and masks."""
    moved = [f"align-{phase.value}" for phase in ASSESSED_PHASES if phase != REFERENCE_PHASE]
    return [walk.steps.digest(name) for name in ("volumes", *moved, "segment")]


def _chosen(walk: Walk) -> Mapping[Phase, Acquisition]:
    if walk.plan is None:
        raise InvalidInput("volumes were asked for before the phases")
    return walk.plan.chosen
