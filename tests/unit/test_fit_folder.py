"""The fit folder's record: written, read back equal, and refused with its faults named."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engines.endpoint import Endpoint
from engines.networks.settings import ENSEMBLE, NetworkName
from train.errors import FitRefused
from train.fit_folder import (
    CohortRecord,
    ConcordanceRecord,
    CutoffRecord,
    FitFolder,
    FitRecord,
    default_fit_folder,
    read_fit,
    write_record,
)

RECORD = FitRecord(
    created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    plan="0" * 64,
    recipe="mini",
    networks=ENSEMBLE,
    phases=("ARTERIAL", "PORTAL_VENOUS", "DELAYED"),
    side=16,
    folds=3,
    seeds=(0, 1),
    preset="standard13",
    estimator="cox",
    with_radiomic=False,
    radiomic="none",
    epochs={"network1": 5},
    cohort=CohortRecord(
        name="cohort",
        digest="1" * 64,
        synthetic=True,
        cases=9,
        patients=8,
        splits={"training": 6, "validation": 2, "unlabelled": 1},
        events_os=4,
        events_pfs=6,
    ),
    device="cpu",
    seconds=1.5,
    versions={"torch": "2"},
    cutoffs=(CutoffRecord(endpoint=Endpoint.OS, model="MMF", value=0.1, rule="median"),),
    concordance=(
        ConcordanceRecord(
            endpoint=Endpoint.PFS,
            model="Network 1",
            rows="out-of-fold",
            patients=8,
            events=6,
            value=0.6,
            low=None,
            high=None,
        ),
    ),
    used={"MMF OS": 7},
    limits=("One case has no clinical variables.",),
)


def finish(folder: Path) -> FitFolder:
    paths = FitFolder(root=folder)
    (paths.model).mkdir(parents=True)
    (paths.model / "manifest.json").write_text("{}")
    paths.folds.write_text("case_id,fold\na,0\nb,2\n")
    paths.out_of_fold.write_text("patient_id\n")
    paths.apparent.write_text("patient_id\n")
    write_record(RECORD, paths)
    return paths


def test_a_record_comes_back_as_it_was_written(tmp_path):
    paths = finish(tmp_path)
    fit = read_fit(tmp_path)
    assert fit.record == RECORD
    assert fit.read_folds() == {"a": 0, "b": 2}
    assert fit.paths.run("fold-1", NetworkName.NETWORK2, 0) == tmp_path / "networks/fold-1/network2/seed-0"
    assert fit.paths == paths


def test_the_folder_lies_beside_the_cohort(tmp_path):
    assert default_fit_folder(tmp_path / "hospital") == tmp_path.resolve() / "hospital-fit"


def test_a_folder_without_record_says_whether_it_is_a_fit_at_all(tmp_path):
    with pytest.raises(FitRefused, match="is no fit"):
        read_fit(tmp_path)
    (tmp_path / "networks").mkdir()
    with pytest.raises(FitRefused, match="in progress"):
        read_fit(tmp_path)


def test_every_fault_of_a_record_is_named(tmp_path):
    paths = finish(tmp_path)
    content = json.loads(paths.record.read_text())
    paths.record.write_text(json.dumps({**content, "folds": "five", "side": None, "colour": "red"}))
    with pytest.raises(FitRefused) as refused:
        read_fit(tmp_path)
    assert all(word in str(refused.value) for word in ("folds", "five", "side", "unknown key colour"))
    paths.record.write_text(json.dumps({**content, "schema_version": 2}))
    with pytest.raises(FitRefused, match="version 2, expected mmf-fit version 1"):
        read_fit(tmp_path)
    write_record(replace(RECORD, created=datetime(2026, 1, 1)), paths)
    with pytest.raises(FitRefused, match="no time zone"):
        read_fit(tmp_path)
    paths.record.write_text("[]")
    with pytest.raises(FitRefused, match="expected an object"):
        read_fit(tmp_path)


def test_a_missing_table_is_named(tmp_path):
    paths = finish(tmp_path)
    paths.apparent.unlink()
    with pytest.raises(FitRefused, match=r"apparent\.csv missing"):
        read_fit(tmp_path)
