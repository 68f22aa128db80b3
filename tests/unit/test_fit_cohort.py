"""A cohort as fit reads it from case folders: everything comes back, and what must not be mixed is refused with its case."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.acquisition import CtProtocol, write_protocol
from engines.clinical.response import Response
from engines.clinical.treatment import Treatment, write_treatment
from engines.errors import CaseRefused
from engines.network_input import Preprocessing
from tests.fit_cohort import make_fit_cohort, seal, write_fit_cohort
from tests.unit.test_fit_folder import RECORD
from train.data import Split
from train.errors import CohortRefused, FitRefused
from train.evaluate.evidence import check_cohort
from train.fit_cohort import digest_cohort, read_fit_cohort
from train.fit_folder import Fit, FitFolder

torch.set_num_threads(1)

SMALL = Preprocessing(side=16)


@pytest.fixture
def written(tmp_path):
    cohort, examinations = make_fit_cohort({Split.TRAINING: 4, Split.TESTING: 2}, seed=7, side=16)
    write_fit_cohort(tmp_path / "home", cohort, examinations)
    return tmp_path / "home", cohort


def test_everything_comes_back_as_it_was_written(written):
    folder, cohort = written
    read = read_fit_cohort(folder, SMALL)
    assert (read.name, read.synthetic, read.limits) == ("home", True, ())
    np.testing.assert_array_equal(read.data.inputs, cohort.data.inputs)
    np.testing.assert_array_equal(read.features.columns(cohort.features.names), cohort.features.values)
    np.testing.assert_array_equal(read.responses.non_responder, cohort.responses.non_responder)
    np.testing.assert_array_equal(read.responses.months, cohort.responses.months)
    assert read.clinical == cohort.clinical
    assert read.groups["centre"] == cohort.groups["centre"]
    assert set(read.groups["scanner"]) == {"SYNTHETIC PHANTOM"}
    assert read.feature_origin == cohort.feature_origin
    assert read.feature_origin.text() == f"fast, settings {'5' * 12}, masks of synthetic 1"
    assert read.discovery().tolist() == [0, 1, 2, 3]
    assert np.isnan(read.features.columns(["no such feature"])).all()


@pytest.mark.parametrize("name", ["outcomes.json", "treatment.json", "response.json", "clinical.json"])
def test_the_digest_follows_a_file_that_was_put_beside_a_sealed_case(written, name):
    folder, cohort = written
    path = folder / "case-0001" / name
    content = path.read_bytes()
    path.unlink()
    seal(folder, "case-0001", cohort.data.patient_keys[1])
    without = digest_cohort(folder)
    path.write_bytes(content)
    beside = digest_cohort(folder)
    path.write_bytes(content + b"\n")
    assert len({without, beside, digest_cohort(folder)}) == 3
    path.write_bytes(content)
    assert read_fit_cohort(folder, SMALL).digest == beside


def test_the_digest_follows_what_is_fitted_and_nothing_else(written):
    folder, _ = written
    before = read_fit_cohort(folder, SMALL).digest
    (folder / "case-0000" / "scores.json").write_text("{}")
    seal(folder, "case-0000", "patient-0000")
    assert read_fit_cohort(folder, SMALL).digest == before
    (folder / "case-0000" / "clinical.json").write_text("{}")
    seal(folder, "case-0000", "patient-0000")
    assert read_fit_cohort(folder, SMALL).digest != before


def test_a_patient_with_progression_alone_is_labelled_and_the_unlabelled_are_in_no_table(written):
    folder, _ = written
    (folder / "splits.csv").unlink()
    for row, kept in ((1, ("pfs",)), (2, ())):
        outcomes = folder / f"case-000{row}" / "outcomes.json"
        outcomes.write_text(json.dumps({word: json.loads(outcomes.read_text())[word] for word in kept}))
        seal(folder, f"case-000{row}", f"patient-000{row}")
    read = read_fit_cohort(folder, SMALL)
    assert read.data.splits[1] in (Split.TRAINING, Split.VALIDATION)
    assert [row for row, split in enumerate(read.data.splits) if split is Split.UNLABELLED] == [2]
    assert read.with_follow_up().tolist() == [0, 1, 3, 4, 5]
    told = ["unlabelled" if row == 3 else "training" for row in range(6)]
    lines = [f"case-000{row},{word}" for row, word in enumerate(told)]
    (folder / "splits.csv").write_text("\n".join(["case_id,split", *lines]))
    assert read_fit_cohort(folder, SMALL).with_follow_up().tolist() == [0, 1, 4, 5]


def test_the_fit_of_another_cohort_is_refused_with_the_remedy(written, tmp_path):
    folder, _ = written
    digest = read_fit_cohort(folder, SMALL).digest
    assert digest_cohort(folder) == digest
    own = replace(RECORD, cohort=replace(RECORD.cohort, digest=digest))
    fit = Fit(paths=FitFolder(root=tmp_path / "home-fit"), record=own)
    check_cohort(fit, folder)
    splits = (folder / "splits.csv").read_text()
    (folder / "splits.csv").write_text(splits.replace("case-0005,testing", "case-0005,training"))
    with pytest.raises(FitRefused, match=r"is the fit of cohort .*`mmf-train fit --cohort"):
        check_cohort(fit, folder)


def test_what_a_reader_must_know_is_said(written):
    folder, _ = written
    for row in range(6):
        write_protocol(CtProtocol(centre="A"), folder / f"case-000{row}")
        seal(folder, f"case-000{row}", f"patient-000{row}")
    outcomes = folder / "case-0001" / "outcomes.json"
    outcomes.write_text(json.dumps({"os": json.loads(outcomes.read_text())["os"]}))
    seal(folder, "case-0001", "patient-0001")
    read = read_fit_cohort(folder, Preprocessing(side=8))
    words = " ".join(read.limits)
    assert "block means of inputs of side 16" in words
    assert "All cases come from one centre" in words
    assert "1 training or validation cases lack an outcome" in words
    assert read.discovery().tolist() == [0, 2, 3]


def test_contradictions_name_the_case(written):
    folder, cohort = written
    answer = Response.COMPLETE if cohort.responses.non_responder[2] else Response.PROGRESSIVE
    write_treatment(Treatment(response=answer), folder / "case-0002")
    seal(folder, "case-0002", "patient-0002")
    with pytest.raises(CohortRefused, match=r"case-0002: the lesions of response\.json say"):
        read_fit_cohort(folder, SMALL)
    (folder / "case-0002" / "response.json").unlink()
    seal(folder, "case-0002", "patient-0002")
    read = read_fit_cohort(folder, SMALL)
    assert read.responses.non_responder[2] == float(answer is Response.PROGRESSIVE)
    assert np.isnan(read.responses.months[2])
    (folder / "case-0003" / "response.json").write_text("[]")
    seal(folder, "case-0003", "patient-0003")
    with pytest.raises(CaseRefused, match="case case-0003"):
        read_fit_cohort(folder, SMALL)
