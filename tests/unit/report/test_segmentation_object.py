"""The SEG holds each mask on the grid of its own phase and says who made it."""

from dataclasses import replace

import numpy as np
import pytest
from highdicom.seg import Segmentation

from engines.errors import GeometryMismatch
from engines.phase import Phase
from node.report.header import series_description
from node.report.seg import build_segmentation
from node.report.segments import list_hidden_lesions, list_segments
from node.report.slices import locate_slices
from node.report.sr.risks import evaluate
from tests.report_study import ANNEX_K_NAME, LIVER, make_report, native_grid, solid


def test_masks_are_carried_to_each_phase_where_the_patient_lay(sources, masks):
    for used in sources.used:
        truth = solid(native_grid(used.phase), used.phase, *LIVER)
        liver = masks[used.phase].named("liver")
        dice = 2 * (liver & truth).sum() / (liver.sum() + truth.sum())
        assert dice > 0.97, used.phase


@pytest.mark.parametrize("phase", [Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED])
def test_frames_lie_on_the_slices_they_refer_to(phase, sources, segments, masks, segmentations):
    read = Segmentation.from_dataset(segmentations[phase])
    uids = [source.instance.sop_instance_uid for source in locate_slices(sources.acquisition(phase))]
    for segment in segments:
        back = read.get_pixels_by_source_instance(
            uids, segment_numbers=[segment.number], assert_missing_frames_are_empty=True
        )[..., 0]
        assert np.array_equal(back.astype(bool), masks[phase].of(segment)), segment.label


def test_several_lesions_get_segments_beside_the_tumour(segments):
    assert [segment.label for segment in segments] == ["Liver", "Tumour", "Lesion 1", "Lesion 2"]


def test_a_single_lesion_is_the_tumour():
    report = make_report()
    assert [s.label for s in list_segments(replace(report, structures=report.structures[:3]))] == [
        "Liver",
        "Tumour",
    ]


def test_the_largest_lesions_have_segments_and_the_others_are_counted():
    report = make_report()
    lesions = tuple(replace(report.structures[3], name=f"lesion {n}", label=n) for n in range(1, 13))
    many = replace(report, structures=report.structures[:2] + lesions)
    assert [s.label for s in list_segments(many)] == [
        "Liver",
        "Tumour",
        *(f"Lesion {n}" for n in range(1, 9)),
    ]
    assert [lesion.label for lesion in list_hidden_lesions(many)] == [9, 10, 11, 12]
    said = [item.TextValue for item in evaluate(many).ContentSequence if item.ValueType == "TEXT"]
    assert "4 smaller lesions are part of the tumour and have no segment of their own" in said


def test_object_carries_patient_warning_and_maker(segmentations):
    seg = segmentations[Phase.PORTAL_VENOUS]
    assert str(seg.PatientName) == ANNEX_K_NAME
    assert seg.SpecificCharacterSet == "ISO_IR 192"
    assert "RESEARCH USE ONLY" in seg.SeriesDescription
    assert "DEMO MODEL" in seg.SeriesDescription
    assert seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "baseline"
    assert seg.ContributingEquipmentSequence[0].ManufacturerModelName == "mmf-node"
    assert seg.ContentDate == "20260305"


def test_tracking_is_the_same_in_every_phase(segmentations):
    tracks = [[s.TrackingUID for s in seg.SegmentSequence] for seg in segmentations.values()]
    assert tracks[0] == tracks[1] == tracks[2]
    assert len(set(tracks[0])) == 4


def test_a_volume_beside_its_slices_is_refused(envelope, sources, masks):
    used = sources.acquisition(Phase.PORTAL_VENOUS)
    grid = replace(used.volume.grid, origin_mm=(-190.0, -140.0, 101.7))
    moved = replace(used, volume=replace(used.volume, grid=grid))
    with pytest.raises(GeometryMismatch, match="beside the volume"):
        build_segmentation(envelope, moved, masks[Phase.PORTAL_VENOUS])


def test_description_fits_its_value_representation():
    report = make_report()
    assert len(series_description("MMF measurements", replace(report, synthetic=True))) <= 64
