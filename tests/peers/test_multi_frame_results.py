"""Results about enhanced multi-frame CT refer to its frames, without an error of dciodvfy."""

import subprocess
from dataclasses import replace

import pydicom
from highdicom.legacy import LegacyConvertedEnhancedCTImage

from engines.phase import Phase
from node.dicom.headers import read_frames, read_instance
from node.dicom.volumes import read_volume
from node.report.bundle import write_objects
from node.report.sources import UsedAcquisition
from node.report.verify import verify_result
from node.study import Acquisition
from tests.report_study import make_failure, make_report, make_sources


def convert(used: UsedAcquisition, folder, number) -> UsedAcquisition:
    """The same acquisition as one Legacy Converted Enhanced CT image."""
    slices = [pydicom.dcmread(instance.path) for instance in used.acquisition.instances]
    for image in slices:
        image.AcquisitionDate, image.AcquisitionTime = "20260301", "101500"
        image.BodyPartExamined, image.PatientPosition = "LIVER", "HFS"
        image.DeviceSerialNumber = image.SoftwareVersions = "1"
        image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    whole = LegacyConvertedEnhancedCTImage(
        legacy_datasets=slices,
        series_instance_uid=f"1.2.7.{number}",
        series_number=number,
        sop_instance_uid=f"1.2.8.{number}",
        instance_number=1,
    )
    path = folder / f"multi-frame-{number}.dcm"
    whole.save_as(path, enforce_file_format=True)
    frames = sorted(read_frames(read_instance(path)), key=lambda frame: frame.position_mm[2])
    acquisition = Acquisition(
        series_instance_uid=frames[0].series_instance_uid, part=0, instances=tuple(frames)
    )
    return replace(used, acquisition=acquisition, volume=read_volume(acquisition))


def test_results_refer_to_frames(peer, tmp_path):
    program = peer("dciodvfy")
    sources = make_sources(tmp_path)
    used = tuple(convert(one, tmp_path, number) for number, one in enumerate(sources.used, start=21))
    whole = replace(sources, used=used, instance=used[1].acquisition.first)
    report = replace(make_failure(), structures=make_report().structures)
    report = write_objects(report, whole, tmp_path / "out", capture=False)
    assert verify_result(tmp_path / "out") == ()
    for entry in report.objects:
        run = subprocess.run(
            [program, str(tmp_path / "out" / entry.path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert [line for line in run.stderr.splitlines() if line.startswith("Error")] == [], entry.path
    segmentation = pydicom.dcmread(tmp_path / "out" / "dicom" / f"SEG_{Phase.ARTERIAL.value}.dcm")
    frames = {
        int(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for group in segmentation.PerFrameFunctionalGroupsSequence
    }
    assert len(frames) > 5
