"""Real series are read to the voxel as an independent reader reads them; real traps are refused.

The witness is SimpleITK (GDCM), which opens trusted test files here and never a received one.
"""

from collections import defaultdict

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEGLSLossless, RLELossless

from engines.volume import Grid
from node.dicom.headers import read_folder
from node.dicom.volumes import AIR_HU, read_volume
from node.errors import SeriesRefused
from node.stacking import stack_slices
from node.study import Acquisition


def acquisitions(folder):
    """The folder's instances by series, not split."""
    series = defaultdict(list)
    for instance in read_folder(folder)[0]:
        series[instance.study_instance_uid, instance.series_instance_uid].append(instance)
    return [
        Acquisition(series_instance_uid=uid, part=0, instances=tuple(members))
        for (_, uid), members in series.items()
    ]


@pytest.mark.parametrize(
    ("name", "slices"),
    [
        ("ct-liver-metastases/CRLM-CT-1004", 41),
        ("ct-liver-metastases/CRLM-CT-1006", 51),
        ("ct-hcc-tcga", 60),
        ("ct-siemens-j2k/example_ct_dicom", 20),
    ],
)
def test_real_series_equal_an_independent_reading(test_data, name, slices):
    (acquisition,) = acquisitions(test_data / name)
    volume = read_volume(acquisition)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(instance.path) for instance in stack_slices(acquisition).order])
    witness = reader.Execute()
    assert volume.grid.shape[0] == slices
    assert Grid.of_image(witness).matches(volume.grid)
    assert np.array_equal(volume.array, np.maximum(sitk.GetArrayFromImage(witness), AIR_HU))


def test_feet_first_series_lie_head_up_in_the_patient(test_data):
    (acquisition,) = acquisitions(test_data / "ct-liver-metastases/CRLM-CT-1004")
    assert acquisition.first.patient_position == "FFS"
    volume = read_volume(acquisition)
    lungs = [(image[100:400, 100:400] < -700).mean() for image in volume.array]
    assert volume.grid.axes[0] == (0.0, 0.0, 1.0)
    assert np.mean(lungs[-8:]) > np.mean(lungs[:8]) + 0.1


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_real_pixels_survive_other_compressions(test_data, tmp_path, syntax):
    source = test_data / "ct-liver-metastases/CRLM-CT-1004"
    for path in sorted(source.glob("*.dcm"))[:4]:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(tmp_path / path.name)
    (packed,), (plain,) = acquisitions(tmp_path), acquisitions(source)
    uids = {instance.sop_instance_uid for instance in packed.instances}
    same = tuple(instance for instance in plain.instances if instance.sop_instance_uid in uids)
    plain = Acquisition(series_instance_uid="S", part=0, instances=same)
    assert np.array_equal(read_volume(packed).array, read_volume(plain).array)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dcm_qa_ct/In/GE", "gantry tilt.*18.5 degrees"),
        ("dicom2nifti-failing/gantrytilting", "gantry tilt.*14.0 degrees"),
        ("dicom2nifti-failing/notavolume", "4 images at one position"),
        ("dicom2nifti-failing/sliceincrement/001", "missing slices: 1"),
        ("dicom2nifti-failing/sliceincrement/002", "gantry tilt"),
        ("dicom2nifti-failing/sliceorientation", "not CT"),
        ("dicom2nifti-failing/slicecount", "not CT"),
    ],
)
def test_real_traps_are_refused_with_their_reason(test_data, name, reason):
    for acquisition in acquisitions(test_data / "headers-mixed" / name):
        with pytest.raises(SeriesRefused, match=reason):
            read_volume(acquisition)
