"""One run of the whole pipeline, without a network, whose output many tests read."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from node.app import FolderRequest, assess_folder
from node.demo.patient import DemoStudy, write_demo_study
from node.report.record import Report
from node.settings import Settings, read_settings


@dataclass(frozen=True)
class Walked:
    """The demonstration's patient, assessed."""

    study: DemoStudy
    settings: Settings
    report: Report
    out: Path
    steps: list[str]


@pytest.fixture(scope="session")
def walked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    study = write_demo_study(folder, 1)
    settings = read_settings(
        changes={
            "models": {"allow_demonstration": True},
            "clinical": {"table": str(study.clinical_table)},
        }
    )
    steps: list[str] = []
    report = assess_folder(
        settings,
        FolderRequest(folder=study.folder),
        case_folder=folder / "out" / "case",
        out=folder / "out",
        progress=steps.append,
    )
    written = list_files(folder)
    yield Walked(study=study, settings=settings, report=report, out=folder / "out", steps=steps)
    # Which files share a process differs from run to run: a test that changes what all read fails by chance elsewhere.
    assert list_files(folder) == written, (
        "a test added to the shared study or took from it: let it work in a copy"
    )


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
