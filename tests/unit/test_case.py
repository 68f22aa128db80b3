import json

import numpy as np
import pytest
import SimpleITK as sitk

from engines.case import (
    Case,
    CaseIdentity,
    PhaseSource,
    check_case,
    list_cases,
    missing_phases,
    seal_case,
    write_array,
    write_image,
    write_transform,
)
from engines.errors import CaseRefused
from engines.phase import Phase
from engines.volume import Grid, Volume

OBLIQUE = Grid(
    shape=(3, 4, 5),
    spacing_mm=(2.5, 0.7, 0.8),
    origin_mm=(-12.3456789012, 40.0, -7.5),
    axes=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
)


@pytest.fixture
def sealed(tmp_path):
    case = Case(folder=tmp_path / "cohort" / "case-1")
    volume = Volume(array=np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 1024, grid=OBLIQUE)
    write_image(volume, case.volume_path(Phase.ARTERIAL))
    write_transform(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), case.transform_path(Phase.ARTERIAL))
    write_array(np.ones((3, 2, 2, 2), np.float16), case.network_input_path)
    identity = CaseIdentity(
        case_id="case-1",
        patient_key="p1",
        study="1.2.3",
        synthetic=True,
        mask_provider="baseline 1",
        phases={Phase.ARTERIAL: PhaseSource(series="1.2.3.4", part=2, seconds_after_injection=31.5)},
    )
    seal_case(case, identity)
    return case, volume, identity


def test_a_sealed_case_reads_back_what_was_written(sealed):
    case, volume, identity = sealed
    read, read_identity = check_case(case.folder)
    assert read_identity == identity
    again = read.read_volume(Phase.ARTERIAL)
    assert again.array.dtype == np.int16
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.grid.matches(OBLIQUE, tolerance_mm=1e-9)
    assert read.read_transform(Phase.ARTERIAL).TransformPoint((0.0, 0.0, 0.0)) == (1.0, 2.0, 3.0)
    assert read.read_network_input().shape == (3, 2, 2, 2)
    assert missing_phases(read) == (Phase.PORTAL_VENOUS, Phase.DELAYED)
    assert list_cases(case.folder.parent) == [case.folder]


def test_a_file_changed_after_sealing_is_refused_by_name(sealed):
    case, _, _ = sealed
    with case.volume_path(Phase.ARTERIAL).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(CaseRefused, match=r"volumes/ARTERIAL\.nrrd is not the file that was sealed"):
        check_case(case.folder)


def test_a_lost_file_is_refused_by_name(sealed):
    case, _, _ = sealed
    case.network_input_path.unlink()
    with pytest.raises(CaseRefused, match=r"network_input\.npy is missing"):
        check_case(case.folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema_version", 2, "schema_version"),
        ("case_id", "../evil", "case_id"),
        ("files", {"../../etc/hostname": "0" * 64}, "outside the case"),
    ],
)
def test_a_manifest_that_breaks_the_contract_is_refused(sealed, key, value, message):
    case, _, _ = sealed
    path = case.folder / "case.json"
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(CaseRefused, match=message):
        check_case(case.folder)


def test_a_folder_without_cases_is_no_cohort(tmp_path):
    with pytest.raises(CaseRefused, match="holds no case folder"):
        list_cases(tmp_path)


def test_the_grid_survives_the_way_to_simpleitk_and_its_affine_is_simpleitks():
    image = OBLIQUE.image()
    assert Grid.of_image(image).matches(OBLIQUE, tolerance_mm=1e-12)
    z, y, x = 2, 1, 4
    np.testing.assert_allclose(
        (OBLIQUE.affine() @ [z, y, x, 1])[:3], image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-12
    )


def test_files_of_another_study_are_not_sealed_into_a_case(sealed):
    case, _, identity = sealed
    (case.folder / "clinical.json").write_text("{}")
    seal_case(case, identity, [case.volume_path(Phase.ARTERIAL)])
    assert not (case.folder / "clinical.json").exists()
    assert not case.network_input_path.exists()
    assert check_case(case.folder)[1] == identity
