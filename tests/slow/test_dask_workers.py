"""A fit on dask's workers gives the very tables of a fit in one process. About two CPU minutes; listens on loopback."""

import pytest

from tests.end_to_end.test_fit_command import SPLITS, TINY, invoke
from tests.fit_cohort import make_fit_cohort, write_fit_cohort

pytestmark = pytest.mark.slow


def test_workers_of_dask_give_the_tables_of_one_process(tmp_path, monkeypatch):
    from dask.distributed import LocalCluster

    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TINY)
    monkeypatch.setenv("MMF_CONF", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_fit_cohort(tmp_path / "hospital", *make_fit_cohort(SPLITS, seed=1, unlabelled=1))
    words = ["fit", "--cohort", str(tmp_path / "hospital"), "--recipe", "tiny", "--folds", "2"]
    words += ["--device", "cpu", "--trees", "20", "--out"]
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        shared = invoke([*words, str(tmp_path / "shared"), "--dask", cluster.scheduler_address])
    alone = invoke([*words, str(tmp_path / "alone")])
    assert (shared.exit_code, alone.exit_code) == (0, 0)
    for name in ("out_of_fold.csv", "apparent.csv"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
