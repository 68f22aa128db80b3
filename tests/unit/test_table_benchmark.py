"""The Benchmark that evaluation makes of a table's clinical variables: complete cases, out-of-fold, refused when it cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from engines.errors import InvalidInput
from engines.survival.concordance import harrell_c
from engines.survival.cox import fit_cox, log_hazard
from train.evaluate.score_file import read_score_table
from train.evaluate.table_benchmark import add_benchmark

HEADER = "patient_id,cohort,os_months,os_event,pfs_months,pfs_event,pvtt,ecog,bclc,{extra}"


@pytest.fixture
def write(tmp_path):
    def write(n=120, extra="Net", pvtt=None, seed=3):
        random = np.random.default_rng(seed)
        lines = [HEADER.format(extra=extra)]
        for k in range(n):
            thrombus, status = int(random.random() < 0.4), int(random.random() < 0.5)
            time = random.exponential(20 * np.exp(-1.2 * thrombus - 0.5 * status)) + 0.1
            cell = thrombus if pvtt is None else pvtt
            lines.append(
                f"P{k},{'training' if k < 0.7 * n else 'testing'},{time:.3f},1,{time * 0.6:.3f},1,{cell},"
                f"{'' if k == 5 else status},{'ABC'[k % 3]},{random.normal():.3f}"
            )
        path = tmp_path / "scores.csv"
        path.write_text("\n".join(lines) + "\n")
        return read_score_table(path)

    return write


def test_score_predicts_where_it_was_not_fitted_and_lacks_who_lacks_a_variable(write):
    table = add_benchmark(write(), seed=1)
    score = table.scores["Benchmark"]["OS"]
    assert np.flatnonzero(np.isnan(score)).tolist() == [5]
    rows = table.rows("testing")
    assert harrell_c(score[rows], table.endpoints[0].outcome(rows)) > 0.6
    assert list(table.scores)[-1] == "Net"
    assert "83 complete cases of training" in table.notes[-1]


def test_testing_rows_change_nothing_of_the_score(write):
    table = write()
    endpoint = table.endpoints[0]
    rows = table.rows("testing")
    other = replace(endpoint, time=np.where(rows, 1.0, endpoint.time))
    first = add_benchmark(table, seed=1).scores["Benchmark"]["OS"]
    second = add_benchmark(replace(table, endpoints=(other, table.endpoints[1])), seed=1).scores["Benchmark"][
        "OS"
    ]
    np.testing.assert_array_equal(first, second)


def test_training_rows_are_scored_out_of_fold(write):
    table = write()
    got = add_benchmark(table, seed=1).scores["Benchmark"]["OS"]
    rows = table.rows("training") & ~np.isnan(got)
    columns = np.column_stack(
        [
            [float(v.category == word) if v else np.nan for v in table.clinical[name]]
            for name, word in (("pvtt", "present"), ("bclc", "B"), ("bclc", "A"), ("ecog", "1"))
        ]
    )
    apparent = log_hazard(fit_cox(columns[rows], table.endpoints[0].outcome(rows), ridge=1.0), columns[rows])
    assert not np.allclose(got[rows], apparent)
    assert np.corrcoef(got[rows], apparent)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra": "Benchmark"}, "holds a Benchmark score already"),
        ({"n": 12}, "complete cases in training, expected at least 10"),
    ],
)
def test_what_cannot_be_fitted_is_one_clear_error(write, options, words):
    with pytest.raises(InvalidInput, match=words):
        add_benchmark(write(**options), seed=1)


def test_table_without_clinical_variables_is_refused(write):
    with pytest.raises(InvalidInput, match="no clinical variable"):
        add_benchmark(replace(write(), clinical={}), seed=1)
