"""What stands on scores, features and clinical variables: fitted without the held-out rows, deaf to testing rows, complete."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from engines.clinical.variables import ClinicalVariables, Value, Variable
from engines.endpoint import Endpoint
from engines.mmf import ModelName
from tests.fit_cohort import (
    FIT_PLAN,
    FIT_SPLITS,
    fit_imaginary,
    imaginary_networks,
    make_fit_cohort,
    units_of,
)
from train.clinical_model import CoxSettings
from train.cutoff import CutoffRule, parse_cutoff
from train.data import Split
from train.errors import CohortRefused
from train.fit_folder import MODELS, MRECIST
from train.fit_models import fit_models
from train.fit_plan import check_plan, check_units, draw_cohort_folds, plan_units
from train.radiomic_model import FeatureMatrix


@pytest.fixture(scope="module")
def cohort():
    return make_fit_cohort(FIT_SPLITS, seed=4, images=False)[0]


@pytest.fixture(scope="module")
def fitted(cohort):
    return fit_imaginary(cohort)


def hashes(models):
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in models.fitted.items()}


def spoil(cohort, rows):
    """Other outcomes, clinical values, features and responses in some rows."""
    data = cohort.data
    follow = {}
    for word, one in (("os", data.os), ("pfs", data.pfs)):
        months, event = one.months.copy(), one.event.copy()
        months[rows], event[rows] = months[rows][::-1] * 0.5 + 0.1, event[rows][::-1]
        follow[word] = replace(one, months=months, event=event)
    clinical = list(cohort.clinical)
    for row in rows:
        clinical[row] = ClinicalVariables(values={Variable.SEX: Value(category="female")})
    values = cohort.features.values.copy()
    values[rows] += 5.0
    responses = replace(cohort.responses, non_responder=cohort.responses.non_responder.copy())
    responses.non_responder[rows] = np.nan
    return replace(
        cohort,
        data=replace(data, os=follow["os"], pfs=follow["pfs"]),
        clinical=tuple(clinical),
        features=FeatureMatrix(names=cohort.features.names, values=values),
        responses=responses,
    )


def spoil_scores(said, rows, units=None):
    changed = {unit: {end: values.copy() for end, values in ends.items()} for unit, ends in said.items()}
    for unit in units or changed:
        for values in changed[unit].values():
            values[rows] = values[rows][::-1] + 3.0
    return changed


def test_every_model_has_a_pair_of_columns_out_of_fold_and_apparent(cohort, fitted):
    rows = cohort.discovery()
    outside = np.setdiff1d(np.arange(cohort.n), rows)
    assert tuple(fitted.out_of_fold) == tuple(fitted.apparent) == MODELS
    for title in MODELS:
        for endpoint in Endpoint:
            assert np.isnan(fitted.out_of_fold[title][endpoint][outside]).all()
            if (title, endpoint) != (MRECIST, Endpoint.PFS):
                assert np.isfinite(fitted.out_of_fold[title][endpoint][rows]).all()
                assert np.isfinite(fitted.apparent[title][endpoint]).all()
    assert list(fitted.ensembles_out_of_fold) == [
        *("Network 1", "Network 2", "Network 3"),
        *("Network 1+2", "Network 1+3", "Network 2+3", "Network 1+2+3"),
    ]
    np.testing.assert_array_equal(
        fitted.ensembles_apparent["Network 1+2+3"][Endpoint.OS], fitted.apparent["Ensemble-DL"][Endpoint.OS]
    )


def test_nothing_of_the_testing_rows_changes_a_fitted_array(cohort, fitted):
    testing = cohort.data.rows(Split.TESTING)
    said = spoil_scores(imaginary_networks(cohort, 4, units_of(FIT_PLAN)), testing)
    other = fit_imaginary(spoil(cohort, testing), said=said)
    assert hashes(other) == hashes(fitted)
    rows = cohort.discovery()
    for title in MODELS:
        for endpoint in Endpoint:
            np.testing.assert_array_equal(
                other.out_of_fold[title][endpoint][rows], fitted.out_of_fold[title][endpoint][rows]
            )
    assert (other.apparent["MMF"][Endpoint.OS][testing] != fitted.apparent["MMF"][Endpoint.OS][testing]).any()


def test_a_planted_leak_of_testing_rows_is_caught_by_the_same_hash(cohort, fitted):
    """The testing rows are taken into discovery: the arrays must differ."""
    data = cohort.data
    words = [Split.TRAINING if split is Split.TESTING else split for split in data.splits]
    leaking = replace(cohort, data=replace(data, splits=words))
    assert hashes(fit_imaginary(leaking)) != hashes(fitted)


def test_nothing_of_a_fold_changes_what_is_fitted_for_it(cohort, fitted):
    rows = cohort.discovery()
    held_out = rows[fitted.fold == 1]
    some = held_out[:12]
    said = spoil_scores(imaginary_networks(cohort, 4, units_of(FIT_PLAN)), some)
    other = fit_models(spoil(cohort, some), FIT_PLAN, fitted.fold, said)
    before, after = hashes(fitted), hashes(other)
    own = [name for name in before if name.endswith("fold-1")]
    clean = [name for name in own if not name.startswith("MMF")]  # MMF sees scores of units that saw the fold
    assert {name: before[name] for name in clean} == {name: after[name] for name in clean}
    assert any(name.startswith("Radiomic") for name in clean)
    assert before["Benchmark OS whole"] != after["Benchmark OS whole"]


def test_cut_offs_come_from_out_of_fold_discovery_scores(cohort, fitted):
    rows = cohort.discovery()
    for (title, endpoint), (value, rule) in fitted.cutoffs.items():
        scores = fitted.out_of_fold[title][endpoint][rows]
        if title.startswith(MRECIST):
            assert rule == "between responders and others"
            continue
        assert value == pytest.approx(np.median(scores))
        assert "out-of-fold, 2 folds, 110 training phantoms" in rule
    mmf = next(
        f for f in fitted.risk_fits if (f.model.name, f.model.endpoint) == (ModelName.MMF, Endpoint.OS)
    )
    assert mmf.model.cutoff == fitted.cutoffs["MMF", Endpoint.OS][0]


def test_the_response_of_a_patient_who_progressed_by_the_first_ct_is_no_predictor_of_pfs(cohort, fitted):
    pfs = cohort.data.pfs.months
    progressed = cohort.discovery()[pfs[cohort.discovery()] <= 2.0]
    assert progressed.size
    assert np.isnan(fitted.out_of_fold[MRECIST][Endpoint.PFS][progressed]).all()
    assert np.isfinite(fitted.out_of_fold["mRECIST (no landmark)"][Endpoint.PFS][progressed]).all()
    rows, pfs = cohort.discovery(), cohort.data.pfs
    pd = cohort.responses.progressive
    assert np.isnan(fitted.out_of_fold[MRECIST][Endpoint.PFS][pd]).all()
    against = int(cohort.responses.contradicting(pfs.months, pfs.event > 0)[rows].sum())
    assert against > 0
    told = f"{against} discovery cases have PD at their first follow-up CT, but a PFS that goes on beyond it"
    assert any(words.startswith(told) for words in fitted.limits)


def test_what_cannot_be_fitted_is_refused_before_anything_is_trained(cohort):
    plan = FIT_PLAN

    def refused(changed, words, plan=plan):
        with pytest.raises(CohortRefused, match=words):
            check_plan(changed, plan, draw_cohort_folds(changed, plan))

    nothing = tuple(ClinicalVariables(values={}) for _ in cohort.clinical)
    refused(
        replace(cohort, clinical=nothing),
        "no discovery case has all 13 clinical variables of MMF; none has age",
    )
    censored = replace(cohort.data.os, event=np.zeros(cohort.n))
    refused(replace(cohort, data=replace(cohort.data, os=censored)), "fold 0 has no OS event")
    few = tuple(
        patient if row in cohort.discovery()[:4] and not cohort.data.os.event[row] else nothing[0]
        for row, patient in enumerate(cohort.clinical)
    )
    if any(patient.values for patient in few):
        refused(replace(cohort, clinical=few), "no OS event among the")
    bare = replace(cohort, features=FeatureMatrix(names=(), values=np.empty((cohort.n, 0))))
    refused(bare, r"no case has features\.csv", replace(plan, clinical=CoxSettings(with_radiomic=True)))
    refused(cohort, "110 patients cannot make 200 folds", replace(plan, folds=200))


def test_one_scan_in_two_folds_is_refused_before_the_first_unit_trains():
    small = {Split.TRAINING: 24, Split.VALIDATION: 6, Split.TESTING: 4}
    cohort, _ = make_fit_cohort(small, seed=1)
    fold = draw_cohort_folds(cohort, FIT_PLAN)
    units = plan_units(cohort, FIT_PLAN, fold)
    check_units(cohort, units)
    rows = cohort.discovery()[:24]
    first, second = (rows[fold[:24] == number][0] for number in (0, 1))
    cohort.data.inputs[second] = cohort.data.inputs[first]
    check_units(cohort, units[:1])
    with pytest.raises(CohortRefused, match=r"fold-0: .* hold nearly the same volume"):
        check_units(cohort, units)


def test_a_unit_without_an_event_to_choose_from_is_refused_before_the_first_unit_trains():
    cohort, _ = make_fit_cohort({Split.TRAINING: 20, Split.VALIDATION: 8}, seed=1)
    units = plan_units(cohort, FIT_PLAN, draw_cohort_folds(cohort, FIT_PLAN))
    event = cohort.data.os.event.copy()
    event[[row for row, split in enumerate(units[2].splits) if split is Split.VALIDATION]] = 0
    spoiled = replace(cohort, data=replace(cohort.data, os=replace(cohort.data.os, event=event)))
    with pytest.raises(CohortRefused, match=r"fold-1: no OS event among the \d+ validation cases"):
        check_units(spoiled, units[2:])


def test_units_hide_what_they_must_not_see(cohort):
    fold = draw_cohort_folds(cohort, FIT_PLAN)
    units = plan_units(cohort, replace(FIT_PLAN, seeds=(0, 1)), fold)
    assert [unit.name for unit in units] == ["whole", "fold-0", "fold-1"]
    assert list(units[0].splits) == list(cohort.data.splits)
    assert [unit.seeds for unit in units] == [(0, 1), (0,), (0,)]
    for unit in units[1:]:
        assert {unit.splits[row] for row in unit.held_out} == {Split.TESTING}
        assert {unit.splits[row] for row in cohort.data.rows(Split.TESTING)} == {Split.TESTING}
        chosen = [row for row in unit.seen if unit.splits[row] is Split.VALIDATION]
        assert len(chosen) == pytest.approx(unit.seen.size / 5, abs=1)
        assert not set(unit.seen) & set(unit.held_out)
    alone = replace(cohort.data, splits=[Split.TRAINING] * cohort.n)
    whole = plan_units(
        replace(cohort, data=alone), FIT_PLAN, draw_cohort_folds(replace(cohort, data=alone), FIT_PLAN)
    )[0]
    assert whole.splits.count(Split.VALIDATION) == 28


def test_a_fixed_cut_off_with_nobody_on_one_side_gives_way_to_the_median_and_is_told(cohort, fitted):
    plan = replace(FIT_PLAN, clinical=replace(FIT_PLAN.clinical, cutoff=parse_cutoff("9.5")))
    found = fit_imaginary(cohort, plan)
    for endpoint in Endpoint:
        assert found.cutoffs["MMF", endpoint] == fitted.cutoffs["MMF", endpoint]
        told = [words for words in found.limits if words.startswith(f"MMF {endpoint}: the cut-off 9.5")]
        assert len(told) == 1
        assert "the median of the training cohort serves" in told[0]


def test_cut_off_words():
    assert parse_cutoff("Median").rule is CutoffRule.MEDIAN
    assert parse_cutoff("0.25").value == 0.25
    assert parse_cutoff("0.25").of("Benchmark").rule is CutoffRule.MEDIAN
    with pytest.raises(Exception, match="expected median, maxstat"):
        parse_cutoff("mean")
