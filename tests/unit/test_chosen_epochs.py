"""Chosen epochs are counted from 1 wherever a person reads them, and the words say so."""

from pathlib import Path

from train.campaign import RunSummary
from train.commands.networks import show_summaries
from train.evaluate.network_runs import Auxiliary, NetworkRun, RunFacts, hardware_table
from train.scoring import AuxiliaryQuality

CHOSEN = {"os": 0, "pfs": 4, "combined": 5}
READ_AS = "os 1, pfs 5, combined 6"
HEADER = "Chosen epochs (the first is 1)"
VERSIONS = {"torch": "2"}


def test_the_summary_of_networks_counts_from_one(capsys):
    c_index = {name: {"validation": {"os": 0.6, "pfs": 0.6}} for name in CHOSEN}
    summary = RunSummary(
        network="network1",
        seed=7,
        parameters=10,
        epochs=6,
        chosen_epoch=CHOSEN,
        c_index=c_index,
        auxiliary=AuxiliaryQuality(age_error_years=None, label_auc={}),
        seconds=1.0,
        data_wait=0.0,
        device="cpu",
        hardware="processor",
        versions=VERSIONS,
        sha256={},
    )
    show_summaries([summary], Path("out"), as_json=False)
    assert f"{HEADER}: seed 7: {READ_AS}\n" in capsys.readouterr().out


def test_the_hardware_table_counts_as_the_summary_of_networks():
    facts = RunFacts(
        network="network1",
        seed=7,
        parameters=10,
        epochs=6,
        chosen_epoch=CHOSEN,
        auxiliary=Auxiliary(age_error_years=None, label_auc={}),
        seconds=1.0,
        data_wait=0.0,
        device="cpu",
        versions=VERSIONS,
    )
    table = hardware_table([NetworkRun(unit="whole", facts=facts, c_index={})])
    assert dict(zip(table.header, table.rows[0].cells, strict=True))[HEADER] == READ_AS
