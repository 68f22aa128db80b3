"""What every test may ask for: the public test data, real DICOM peers, quiet threads."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import structlog

from node.log import HANDLER_NAME

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TCP_NODELAY", "1")  # DCMTK's tools wait 40 ms an object without it
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parent.parent


def required(kind: str) -> bool:
    """Whether MMF_REQUIRE turns a skip for ``kind`` (peers, data) into a failure."""
    return kind in os.environ.get("MMF_REQUIRE", "").split(",")


def find_test_data() -> Path:
    """The folder of public test data; it may not exist."""
    return Path(os.environ.get("MMF_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The public test data, or a loud skip."""
    folder = find_test_data()
    if not folder.is_dir():
        reason = f"public test data not found at {folder}; set MMF_TEST_DATA"
        if required("data"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def require_peer(program: str) -> str:
    """The path of a peer's program (Orthanc, storescu, dciodvfy ...), or a loud skip."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed; apt-get install orthanc orthanc-dicomweb dcmtk dicom3tools"
        if required("peers"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def peer():
    """Function that returns a peer program's path or skips loudly."""
    return require_peer


@pytest.fixture(autouse=True)
def _log_of_this_test_alone():
    """A command sets the log up for its own standard error, which is closed when the next test writes a line."""
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    for handler in [one for one in root.handlers if one.name == HANDLER_NAME]:
        root.removeHandler(handler)


def pytest_collection_modifyitems(config, items):
    """Keep torch to one thread only where torch is used: setting it here would import it for every test."""
    for item in items:
        if "slow" in item.path.parts:
            item.add_marker(pytest.mark.slow)
        if "peers" in item.path.parts:
            item.add_marker(pytest.mark.peers)
