"""An MMF with the Radiomic score, from a cohort's features to the node's report: both ends say the same number of a case."""

import csv
import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pypdfium2
import pytest
import torch

from engines.case import Case
from engines.endpoint import Endpoint
from engines.mmf import ModelName
from engines.models.reference import Reference, describe_clinical, describe_inputs
from engines.network_input import Preprocessing
from engines.networks.registry import build_network
from engines.networks.settings import ENSEMBLE, NetworkSettings
from engines.radiomics.feature_file import read_features
from node.app import FolderRequest, assess_folder
from node.report.json_form import read_json
from node.report.verify import verify_result
from tests.fit_cohort import FIT_PLAN, make_fit_cohort, seal, units_of, write_fit_cohort
from tests.model_folder import statement
from train.clinical_model import CoxSettings
from train.data import Split
from train.fit_cohort import read_fit_cohort
from train.fit_models import FittedModels, fit_models
from train.fit_plan import draw_cohort_folds
from train.fusion import ForestSettings
from train.radiomic_model import FIXED_FEATURES, RadiomicMode
from train.release import FittedParts, write_release
from train.scoring import score_cases

SIDE = 32
SPLITS = {Split.TRAINING: 60, Split.VALIDATION: 12, Split.TESTING: 1}
PLAN = replace(
    FIT_PLAN,
    forest=ForestSettings(trees=60),
    radiomic=RadiomicMode.FIXED,
    clinical=CoxSettings(with_radiomic=True),
)
LISTED = sorted({*FIXED_FEATURES[Endpoint.OS], *FIXED_FEATURES[Endpoint.PFS]})


@dataclass(frozen=True)
class Fused:
    """A model released of a cohort whose last case is the node's own, and what the fit says of that case."""

    model: str
    models: FittedModels
    case: int

    def said(self, name, endpoint):
        """The fit's own score of the case."""
        return float(self.models.apparent[name][endpoint][self.case])


@pytest.fixture(scope="module")
def fused(walked, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("fusion")
    cohort = write_cohort_with(Case(folder=walked.out / "case"), folder / "cohort")
    networks = make_networks()
    units = units_of(PLAN)
    said = {endpoint: log_risks(networks, cohort, endpoint) for endpoint in Endpoint}
    models = fit_models(cohort, PLAN, draw_cohort_folds(cohort, PLAN), dict.fromkeys(units, said))
    parts = FittedParts(
        preprocessing=Preprocessing(side=SIDE),
        networks={(name, endpoint): network for name, network in networks.items() for endpoint in Endpoint},
        half=False,
        ensembles=models.ensembles,
        risk_fits=models.risk_fits,
        comparators=models.comparators,
        reference=Reference(
            models=tuple(fit.reference for fit in models.risk_fits),
            network_input=describe_inputs(*wide_statistics(), Preprocessing().phases),
            log_risks=(),
            clinical=describe_clinical(cohort.clinical),
        ),
    )
    write_release(folder / "model", statement("1"), parts, np.asarray(cohort.data.inputs[0]))
    return Fused(model=folder / "model", models=models, case=cohort.n - 1)


def write_cohort_with(own, folder):
    """A synthetic cohort in which every case has features around those of ``own``, which is its last case itself."""
    cohort, examinations = make_fit_cohort(SPLITS, seed=11, side=SIDE)
    write_fit_cohort(folder, cohort, examinations)
    lines = read_features(own.features_path)
    listed = [line for line in lines if f"{line.region} {line.phase} {line.feature}" in LISTED]
    assert len(listed) == len(LISTED), "the demonstration's patient has a tumour and every listed feature"
    random = np.random.default_rng(17)
    for case_id in cohort.data.case_ids[:-1]:
        drawn = [replace(line, value=line.value * (1 + 0.3 * random.normal())) for line in listed]
        write_lines(folder / case_id / "features.csv", own.features_path, drawn)
        seal(folder, case_id, f"patient-{case_id[-4:]}")
    last = cohort.data.case_ids[-1]
    for name in ("features.csv", "network_input.npy", "clinical.json"):
        shutil.copyfile(own.folder / name, folder / last / name)
    seal(folder, last, f"patient-{last[-4:]}")
    return read_fit_cohort(folder, Preprocessing(side=SIDE))


def write_lines(path, like, lines):
    header = like.read_text().splitlines()[0].split(",")
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(header)
        for line in lines:
            rows.writerow([repr(v) if isinstance(v := getattr(line, name), float) else v for name in header])


def make_networks():
    torch.manual_seed(5)
    settings = NetworkSettings(side=SIDE, width=0.125, depth=0.25)
    return {name: build_network(name, settings).eval() for name in ENSEMBLE}


def log_risks(networks, cohort, endpoint):
    everyone = np.arange(cohort.n)
    columns = [
        score_cases(networks[name], cohort.data.inputs, everyone).endpoint(endpoint.value.lower())
        for name in ENSEMBLE
    ]
    return np.column_stack(columns)


def wide_statistics():
    return np.random.default_rng(3).uniform(0.1, 0.9, (2, 40, 3))


def assess(walked, model, out, **assessment):
    """The node's report of the demonstration's patient by another model; the finished steps are taken over."""
    shutil.copytree(walked.out / "case", out / "case")
    settings = walked.settings.model_copy(
        update={
            "models": walked.settings.models.model_copy(update={"folder": model}),
            "assessment": walked.settings.assessment.model_copy(update=assessment),
        }
    )
    return assess_folder(
        settings, FolderRequest(folder=walked.study.folder), case_folder=out / "case", out=out
    )


def test_the_node_gives_the_score_that_the_fit_gives_of_the_same_case(walked, fused, tmp_path):
    report = assess(walked, fused.model, tmp_path)
    assert [(risk.endpoint, risk.model) for risk in report.risks] == [("OS", "MMF"), ("PFS", "MMF")]
    assert not any("not computed" in flag for flag in report.flags)
    scores = json.loads((tmp_path / "case" / "scores.json").read_text())
    for risk, entry in zip(report.risks, scores["endpoints"], strict=True):
        endpoint = Endpoint(risk.endpoint)
        radiomic = entry["radiomic"]["log_hazard"]
        assert radiomic == pytest.approx(fused.said("Radiomic", endpoint), abs=1e-9)
        assert risk.log_hazard == pytest.approx(fused.said("MMF", endpoint), abs=1e-9)
        (part,) = [one for one in risk.contributions if one.name == "Radiomic score"]
        assert part.value == f"{radiomic:.4f}"
        assert sum(one.log_hazard for one in risk.contributions) == pytest.approx(risk.log_hazard, abs=1e-9)
        named = [f"{one.region} {one.phase} {one.feature}" for one in risk.radiomic_features]
        assert tuple(named) == FIXED_FEATURES[endpoint]
    assert read_json((tmp_path / "report.json").read_text()).risks == report.risks
    assert verify_result(tmp_path) == ()
    words = " ".join(
        page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(tmp_path / "report.pdf")
    )
    assert "MMF also takes the Radiomic score" in " ".join(words.split())
    assert "tumour delayed glcm_Imc1" in " ".join(words.split())


def test_a_node_that_measures_no_features_gives_ensemble_dl_and_the_reason(walked, fused, tmp_path):
    report = assess(walked, fused.model, tmp_path / "off", radiomics=False)
    assert {risk.model for risk in report.risks} == {ModelName.ENSEMBLE_DL.value}
    told = [flag for flag in report.flags if "MMF was not computed" in flag]
    assert told == [
        "MMF was not computed, Ensemble-DL is shown instead; missing: Radiomic score of OS and PFS (no features were"
        " extracted)"
    ]
    assert report.missing == ("Radiomic score of OS and PFS (no features were extracted)",)
