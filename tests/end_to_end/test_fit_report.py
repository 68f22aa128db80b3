"""The report of a fitted cohort, on a fit folder written by hand: nothing is trained here."""

import csv
import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from engines.configuration import find_conf
from engines.endpoint import Endpoint
from engines.models.comparator import Comparator, ComparatorName
from engines.networks.settings import ENSEMBLE, NetworkName
from engines.survival.cox import fit_cox, hazard_ratios
from engines.survival.outcome import Outcome
from tests.evaluation_cohort import write_evaluation_cohort
from train.cli import main
from train.errors import AblationRefused, CohortRefused, FitRefused
from train.evaluate.ablation_cells import (
    Ablation,
    AblationCell,
    AblationRecord,
    EnsembleCell,
    read_ablation,
    write_ablation,
)
from train.evaluate.ablation_tables import (
    architecture_table,
    as_ensemble_cell,
    ensemble_table,
    phase_table,
    read_published_phases,
)
from train.evaluate.case_facts import box_volume_ml, read_case_facts
from train.evaluate.document import RowKind
from train.evaluate.evidence import gather_evidence
from train.evaluate.fit_scores import read_ensemble_scores, read_fit_scores
from train.evaluate.measures import Settings, measure_models
from train.evaluate.network_runs import auxiliary_table, hardware_table, seeds_table
from train.evaluate.protocol_table import deviation_table, protocol_table
from train.evaluate.published import read_published
from train.evaluate.radiomics import abbreviate, correlate, gather_features, selected_table
from train.evaluate.score_file import read_score_table
from train.evaluate.score_table import COPIES, FIT_COPIES
from train.fit_cohort import digest_cohort
from train.fit_folder import CohortRecord, CutoffRecord, FitFolder, FitRecord, read_fit, write_record

N = 60


def write_fit(folder, cohort, patients, splits, seeds=(0, 1, 2)):
    """A fit folder: scores that follow the hazard, more so where they are apparent; summaries; the demonstration model."""
    paths = FitFolder(root=folder)
    shutil.copytree(find_conf("models/demo"), paths.model)
    random = np.random.default_rng(3)
    ids = sorted(splits)
    hazard = np.array([p.log_hazard[Endpoint.OS] for p in patients])
    discovery = [k for k, case in enumerate(ids) if splits[case] != "testing"]

    def write(path, rows, noise, names):
        scores = {name: hazard + noise * random.normal(size=len(ids)) for name in names}
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            head = [
                "patient_id",
                "cohort",
                "os_months",
                "os_event",
                "pfs_months",
                "pfs_event",
                "pvtt",
                "ecog",
            ]
            writer.writerow([*head, *(f"{name}_{word}" for name in names for word in ("os", "pfs"))])
            for k in rows:
                follow = [patients[k].follow_up[endpoint] for endpoint in Endpoint]
                months = [value for entry in follow for value in (entry.months, int(entry.event))]
                values = [round(float(scores[name][k]), 4) for name in names for _ in range(2)]
                known = [patients[k].clinical.values[word].category for word in ("pvtt", "ecog")]
                writer.writerow([f"patient-1-{k:03d}", splits[ids[k]], *months, *known, *values])

    models = ("Network 1", "Network 2", "Network 3", "Benchmark", "Ensemble-DL", "MMF")
    ensembles = ("Network 1", "Network 1+2", "Network 1+2+3")
    write(paths.out_of_fold, discovery, 2.0, models)
    write(paths.apparent, range(len(ids)), 0.5, models)
    write(paths.ensembles_out_of_fold, discovery, 2.0, ensembles)
    write(paths.ensembles_apparent, range(len(ids)), 0.5, ensembles)
    paths.folds.write_text("case_id,fold\n" + "".join(f"{ids[k]},{k % 3}\n" for k in discovery))
    paths.response.write_text(
        "case_id,non_responder,months\n" + "".join(f"{ids[k]},{k % 2},3\n" for k in discovery)
    )
    for unit, number in [("whole", s) for s in seeds] + [("fold-0", seeds[0])]:
        for network in ENSEMBLE:
            write_run(paths.run(unit, network, number), network, number, ids, splits, hazard)
    write_record(record(seeds, digest_cohort(cohort)), paths)
    return read_fit(folder)


def write_run(folder, network, seed, ids, splits, hazard):
    folder.mkdir(parents=True)
    random = np.random.default_rng([seed, len(network.value)])
    values = hazard + random.normal(size=len(ids))
    rows = [f"{c},{splits[c]},{v:.4f},{v:.4f},0,0" for c, v in zip(ids, values, strict=True)]
    (folder / "scores.csv").write_text(
        "\n".join(["case_id,split,os,pfs,combined_os,combined_pfs", *rows]) + "\n"
    )
    summary = {
        "network": network.value,
        "seed": seed,
        "parameters": 1234,
        "epochs": 6,
        "chosen_epoch": {"os": 4, "pfs": 5, "combined": 5},
        "c_index": {},
        "auxiliary": {"age_error_years": 8.0, "label_auc": {"sex": 0.6, "pvtt": None}},
        "seconds": 90.0,
        "data_wait": 0.1,
        "device": "cpu",
        "versions": {"torch": "2"},
        "sha256": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def record(seeds, digest):
    from datetime import UTC, datetime

    return FitRecord(
        created=datetime(2026, 1, 2, tzinfo=UTC),
        plan="a" * 64,
        recipe="tiny",
        networks=ENSEMBLE,
        phases=("ARTERIAL", "PORTAL_VENOUS", "DELAYED"),
        side=16,
        folds=3,
        seeds=seeds,
        preset="standard13",
        estimator="cox",
        with_radiomic=False,
        radiomic="none",
        epochs={"network1": 6},
        cohort=CohortRecord(
            name="home",
            digest=digest,
            synthetic=True,
            cases=N,
            patients=N,
            splits={},
            events_os=20,
            events_pfs=30,
        ),
        device="cpu",
        seconds=1.0,
        versions={"torch": "2"},
        cutoffs=tuple(CutoffRecord(endpoint=e, model="MMF", value=0.25, rule="median") for e in Endpoint),
        concordance=(),
        used={},
        limits=("A limit of this fit.",),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """(cohort folder, fit) of 60 synthetic patients."""
    folder = tmp_path_factory.mktemp("cohorts") / "home"
    patients = write_evaluation_cohort(folder, N, seed=1, side=2)
    with (folder / "splits.csv").open(newline="") as file:
        splits = {row["case_id"]: row["split"] for row in csv.DictReader(file)}
    return folder, write_fit(folder.with_name("home-fit"), folder, patients, splits)


@pytest.fixture(scope="module")
def gathered(home):
    return gather_evidence(home[1], (home[0],), (), None)


def test_out_of_fold_comes_first_and_the_same_patients_apparent_beside_it(home):
    table = read_fit_scores(home[1])
    assert table.cohorts == (
        "training",
        "training (apparent)",
        "validation",
        "validation (networks selected on, fused models apparent)",
        "discovery",
        "testing",
    )
    assert [table.title(name) for name in table.cohorts[:3:2]] == [
        "training, out-of-fold",
        "validation, out-of-fold",
    ]
    assert table.patients == N
    assert table.rows("discovery").sum() == table.rows("training").sum() + table.rows("validation").sum()
    one, copy = table.rows("training"), table.rows("training (apparent)")
    assert [table.patient_ids[k] for k in np.flatnonzero(one)] == [
        table.patient_ids[k] for k in np.flatnonzero(copy)
    ]
    assert table.released_cutoffs["OS"] == {"MMF": 0.25}
    assert "A limit of this fit." in table.notes


def test_apparent_scores_look_better_and_never_enter_discovery(home):
    records = {
        (r.cohort, r.endpoint): r
        for r in measure_models(read_fit_scores(home[1]), Settings(repeats=100))
        if r.model == "MMF"
    }
    assert records["training (apparent)", "OS"].c_index > records["training", "OS"].c_index
    assert records["discovery", "OS"].n == records["training", "OS"].n + records["validation", "OS"].n


def test_patient_of_two_cohorts_and_cohorts_of_one_name_are_refused(home):
    own = read_score_table(home[1].paths.apparent)
    with pytest.raises(CohortRefused, match=r"patient patient-1-0\d\d is in"):
        read_fit_scores(home[1], (own,))


def test_case_folders_tell_groups_protocol_treatment_and_who_is_missing(gathered):
    table, evidence = gathered
    assert set(table.groups) >= {"centre", "scanner", "vendor", "regimen", "aetiology", "response"}
    assert set(table.background) >= {
        "kvp",
        "slice_thickness_mm",
        "liver_box_ml",
        "non_responder",
        "first_ct_months",
    }
    assert evidence.facts.excluded == {"home": {"no delayed phase": 2, "scan too old": 1}}
    assert evidence.model.card.demonstration
    rows = {
        row.cells[0]: row.cells for row in protocol_table(evidence.facts.cases).rows if len(row.cells) > 1
    }
    assert rows["tube current"][2].startswith("n 60: 300; outside 0")
    flagged = deviation_table(evidence.facts.cases).rows
    assert all("kVp 80 kV (expected 100-120 kV)" in row.cells[3] for row in flagged)


def test_box_of_the_liver_is_that_of_its_mask(home):
    facts = read_case_facts((home[0],))
    # 5 x 6 x 6 voxels of 5 x 20 x 20 mm in the case whose liver is one slice higher
    assert {case.liver_box_ml for case in facts.cases} == {288.0, 360.0, 432.0}
    assert box_volume_ml.__doc__


def test_networks_are_measured_over_seeds_and_hardware_is_named(gathered):
    runs = gathered[1].runs
    assert len(runs) == 3 * 3 + 3
    seeds = seeds_table(runs)
    assert {row.cells[2] for row in seeds.rows} == {"3"}
    assert all("+-" in row.cells[5] for row in seeds.rows)
    assert "fewer than 3 seeds" not in " ".join(seeds.notes)
    assert [row.cells[1:] for row in auxiliary_table(runs).rows] == [
        ("8.00",) * 3,
        ("0.60",) * 3,
        ("not estimable",) * 3,
    ]
    first = hardware_table(runs).rows[0].cells
    assert first[:6] == ("whole", "Network 1", "1,234", "0, 1, 2", "6", "os 5, pfs 6, combined 6")
    short = seeds_table([run for run in runs if run.facts.seed == 0])
    assert "fewer than 3 seeds" in " ".join(short.notes)


def test_damaged_run_is_named(home, tmp_path):
    folder = tmp_path / "fit"
    shutil.copytree(home[1].paths.root, folder)
    path = next(folder.glob("networks/whole/network1/seed-0/summary.json"))
    path.write_text("{}")
    with pytest.raises(FitRefused, match="not the summary of a run"):
        gather_evidence(read_fit(folder), (home[0],), (), None)


def test_ensembles_are_single_networks_pairs_and_all_three(home):
    scores = read_ensemble_scores(home[1])
    measured = [as_ensemble_cell(record) for record in measure_models(scores, Settings(repeats=100))]
    table = ensemble_table(measured, ("training", "testing"), scores.title, read_published())
    kinds = [(row.kind, row.cells[0]) for row in table.rows]
    assert kinds == [
        (RowKind.HEADING, "Single model (the raw network)"),
        (RowKind.VALUE, "Network 1"),
        (RowKind.PUBLISHED, "published"),
        (RowKind.HEADING, "Two models"),
        (RowKind.VALUE, "Network 1+2"),
        (RowKind.PUBLISHED, "published"),
        (RowKind.HEADING, "All"),
        (RowKind.VALUE, "Network 1+2+3"),
        (RowKind.PUBLISHED, "published"),
    ]
    assert table.rows[5].cells[1:] == ("", "0.66", "", "0.62")


def cells():
    return [
        AblationCell(
            network=name,
            phases=phases,
            seed=0,
            endpoint=endpoint,
            cohort=cohort,
            n=10,
            events=8,
            c_index=0.61,
            low=0.5,
            high=0.7,
        )
        for name, phases in [(n, "A+V+D") for n in NetworkName] + [(NetworkName.NETWORK1, "A")]
        for endpoint in ("OS", "PFS")
        for cohort in ("training (apparent)", "validation (selected on)", "testing")
    ]


RECORD = AblationRecord(
    cohort="home",
    cases=60,
    synthetic=True,
    recipe="tiny",
    seeds=(0,),
    device="cpu",
    fit="home-fit",
    complete=False,
    missing=("network1 on A, seed 0",),
)


@pytest.mark.parametrize("copies", [COPIES, FIT_COPIES])
def test_published_values_stand_beside_apparent_columns_and_never_beside_out_of_fold_ones(copies):
    pair = EnsembleCell(
        ensemble="Network 1",
        seed=0,
        endpoint="OS",
        cohort="testing",
        n=9,
        events=5,
        c_index=0.6,
        low=None,
        high=None,
    )
    columns = ("training", copies["training"], "validation", copies["validation"], "testing")
    table = ensemble_table([pair], columns, str, read_published())
    published = next(row for row in table.rows if row.kind is RowKind.PUBLISHED)
    # Source: supplementary Table 2, Network 1, OS.
    assert published.cells[1:6] == ("", "0.68 (0.65-0.72)", "", "0.65 (0.59-0.72)", "0.65 (0.60-0.70)")


def test_ablation_is_read_back_and_laid_out_as_the_supplement(tmp_path):
    pair = EnsembleCell(
        ensemble="Network 1+3",
        seed=0,
        endpoint="OS",
        cohort="testing",
        n=9,
        events=0,
        c_index=None,
        low=None,
        high=None,
    )
    write_ablation(tmp_path, RECORD, cells(), [pair])
    assert read_ablation(tmp_path) == Ablation(record=RECORD, cells=tuple(cells()), ensembles=(pair,))
    table = architecture_table(RECORD, cells(), read_published())
    names = [row.cells[0] for row in table.rows if row.kind is RowKind.VALUE]
    assert names[0] == "3D ResNet50"
    assert len(names) == len(NetworkName)
    assert table.rows[2].cells[1:4] == ("0.64 (0.61-0.68)", "0.64 (0.57-0.71)", "0.62 (0.57-0.67)")
    phases = phase_table(RECORD, cells(), "OS")
    assert [row.cells[0] for row in phases.rows if row.kind is RowKind.VALUE] == [
        "A", "V", "D", "A+V", "A+D", "V+D", "A+V+D",
    ]  # fmt: skip
    assert any("missing: network1 on A" in note for note in phases.notes)
    assert any("swapped" in note for note in phases.notes)


def test_published_phases_agree_with_the_published_architectures():
    # The blocks of Table 3 are printed swapped: put back, A+V+D of OS is the OS column of Table 2.
    phases, published = read_published_phases(), read_published()
    for network in ("Network 1", "Network 2", "Network 3"):
        for cohort in ("training", "validation", "testing"):
            assert phases["A+V+D", network, "OS", cohort] == published.c_index[cohort, "OS", network].value


def test_damaged_and_foreign_ablations_are_refused(home, tmp_path):
    with pytest.raises(AblationRefused, match="holds no ablation"):
        read_ablation(tmp_path)
    write_ablation(tmp_path, replace(RECORD, cohort="away"), cells(), ())
    with pytest.raises(AblationRefused, match="an ablation of away, not of home"):
        gather_evidence(home[1], (home[0],), (), tmp_path)
    write_ablation(tmp_path, replace(RECORD, digest="of earlier outcomes"), cells(), ())
    with pytest.raises(AblationRefused, match="of another state of home; make it again"):
        gather_evidence(home[1], (home[0],), (), tmp_path)
    (tmp_path / "ablation.csv").write_text("network\nnonsense\n")
    with pytest.raises(AblationRefused, match="damaged"):
        read_ablation(tmp_path)


def test_signatures_correlate_with_the_features_that_follow_the_hazard(gathered):
    table, evidence = gathered
    columns = gather_features(table, evidence.features)
    assert len(columns.names) == 5
    found = correlate(table, columns, ("Network 1", "MMF"), "OS", table.rows("testing"))
    assert found.features[0] in {
        "liver ARTERIAL original_glrlm_GrayLevelNonUniformity",
        "liver PORTAL_VENOUS original_firstorder_InterquartileRange",
    }
    from scipy.stats import spearmanr

    place = columns.names.index(found.features[0])
    rows = table.rows("testing")
    peer = spearmanr(columns.values[rows, place], table.scores["MMF"]["OS"][rows]).statistic
    assert found.rho[0, 1] == pytest.approx(peer, abs=1e-12)
    assert found.tested == 10


def test_selected_features_have_hazard_ratios_per_standard_deviation(gathered):
    random = np.random.default_rng(0)
    name = "liver ARTERIAL original_glrlm_GrayLevelNonUniformity"
    x = 10 * random.normal(size=80)
    outcome = Outcome(random.exponential(10 * np.exp(-0.05 * x)), np.ones(80, dtype=bool))
    cox = fit_cox(x, outcome, (name,))
    comparator = Comparator(
        name=ComparatorName.RADIOMIC, endpoint=Endpoint.OS, cox=cox, cutoff=0.0, cutoff_rule="median"
    )
    sd = float(x.std(ddof=1))
    table = selected_table({Endpoint.OS: comparator}, {("OS", name): 2}, 3, {name: sd})
    row = table.rows[1].cells
    ratio = hazard_ratios(fit_cox(x / sd, outcome))[0]
    assert row[1] == "L_A_glrlmGLNU"
    assert row[3] == f"{ratio.hazard_ratio:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
    assert row[5] == "2 of 3"
    assert sum(r.kind is RowKind.PUBLISHED for r in table.rows) == 9


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("liver PORTAL_VENOUS original_firstorder_InterquartileRange", "L_V_firstorderIR"),
        ("tumour DELAYED original_glszm_ZoneVariance", "T_D_glszmZV"),
        ("tumour original_shape_MeshVolume", "T_shapeMV"),
        ("strange", ""),
    ],
)
def test_features_are_abbreviated_as_in_the_paper(name, short):
    assert abbreviate(name) == short


def test_whole_report_of_a_fitted_cohort_in_one_command(home, tmp_path, monkeypatch, capsys):
    record = replace(RECORD, digest=home[1].record.cohort.digest)
    write_ablation(tmp_path / "ablation", record, cells(), ())
    out = tmp_path / "report"
    options = [
        "--cohort",
        home[0],
        "--ablation",
        tmp_path / "ablation",
        "--out",
        out,
        "--repeats",
        "100",
        "--json",
    ]
    monkeypatch.setattr(sys, "argv", ["mmf-train", "evaluate", *map(str, options)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    records = json.loads(capsys.readouterr().out)
    assert {r["cohort"] for r in records} >= {"training", "training (apparent)", "discovery", "testing"}
    tables = {path.stem for path in (out / "tables").iterdir()}
    assert tables >= {
        "supplementary_table_1_auc_os",
        "supplementary_table_1_auc_pfs",
        "supplementary_table_2_architectures",
        "supplementary_table_3_phases_os",
        "supplementary_table_3_phases_pfs",
        "supplementary_table_4_ensembles",
        "supplementary_table_6_cox_os",
        "supplementary_table_7_cox_pfs",
        "supplementary_table_8_agents",
        "supplementary_figure_6_correlations_os",
        "studies",
        "flow",
        "sample_size",
        "collinearity",
        "ct_protocol",
        "objective_response",
        "landmark_models",
        "coefficients",
        "baseline_hazard",
        "recalibration_os",
        "internal_external_validation",
        "instability_numbers",
        "shortcuts",
        "seeds",
        "auxiliary_heads",
        "time_and_hardware",
        "model_card",
        "tripod_ai",
    }
    page = (out / "report.html").read_text()
    targets = re.findall(r'<td><a href="#([^"]+)"', page)
    assert len(targets) > 25
    assert all(f'id="{target}"' in page for target in targets)
    card = (out / "model_card.md").read_text()
    assert "DEMONSTRATION" in card
    assert "| training (apparent) | OS | MMF |" in card
    assert "SYNTHETIC COHORT" in page


def test_second_report_leaves_nothing_of_the_first(home, tmp_path):
    from train.evaluate.document import Document, Section, Text
    from train.evaluate.folder import write_report

    (tmp_path / "tables").mkdir()
    for name in ("records.json", "tables/old.csv", "tables/mine.txt"):
        (tmp_path / name).write_text("[]")
    document = Document(title="t", subtitle="s", sections=(Section(title="a", parts=(Text(lines=("x",)),)),))
    write_report(document, [], tmp_path)
    assert not (tmp_path / "tables" / "old.csv").exists()
    assert (tmp_path / "tables" / "mine.txt").exists()
