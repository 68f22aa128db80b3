"""compose.yaml: its files agree with each other, its services start, find each other and bring a result to the viewer."""

import json
import os
import shutil
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml

from node.app import plan_service
from node.dicom.reception.access import check_exposure
from node.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def need(condition, what):
    """A loud skip."""
    if not condition:
        pytest.skip(f"{what} is needed")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_compose_itself_takes_the_file():
    command = next(
        (words for words in (["docker", "compose"], ["docker-compose"]) if answers(words)),
        None,
    )
    need(command, "docker compose (or docker-compose)")
    subprocess.run([*command, "-f", str(ROOT / "compose.yaml"), "config", "--quiet"], check=True)


def answers(words):
    """Whether a program is there and tells its version."""
    if shutil.which(words[0]) is None:
        return False
    return subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0


def test_every_port_is_published_on_loopback_and_every_mounted_file_is_there(compose):
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).is_file(), source
        assert "no-new-privileges:true" in service["security_opt"]


def test_node_and_archive_know_each_other_and_the_node_may_listen(compose):
    settings = read_settings(ROOT / "conf" / "compose" / "node.toml")
    archive = json.loads((ROOT / "conf" / "compose" / "orthanc.json").read_text(encoding="utf-8"))
    check_exposure(plan_service(settings).listener)
    modality = archive["DicomModalities"]["mmf-node"]
    assert (modality["AET"], modality["Port"]) == (settings.listener.ae_title, settings.listener.port)
    assert {modality["Host"], settings.destination.host} <= set(compose["services"])
    assert settings.destination.ae_title == archive["DicomAet"]
    assert settings.destination.port == archive["DicomPort"]
    (subnet,) = (entry["subnet"] for entry in compose["networks"]["imaging"]["ipam"]["config"])
    assert {ip_network(peer.address) for peer in settings.listener.allowed} == {ip_network(subnet)}
    assert archive["DicomAet"] in {peer.ae_title for peer in settings.listener.allowed}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What one run of the stack's processes saw, the viewer's real page among it where there is one."""
    need(os.geteuid() == 0 and shutil.which("unshare") and shutil.which("ip"), "root, unshare and ip")
    need(shutil.which("Orthanc") and PLUGIN.exists(), "Orthanc with its DICOMweb plugin")
    need(shutil.which("nginx"), "nginx")
    folder = tmp_path_factory.mktemp("stack")
    ran = subprocess.run(
        ["unshare", "--mount", "--net", sys.executable, "-m", "tests.slow.compose_stack", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.timeout(1200)
def test_a_study_goes_through_archive_and_node_to_the_viewer(seen):
    assert seen["healthy"]
    assert seen["stored"] == 120
    assert (seen["job"]["state"], seen["job"]["outcome"]) == ("DONE", "assessed"), seen
    assert seen["job"]["shown_to"] == "orthanc:4242:ORTHANC"
    assert seen["moves"][-1] == "DONE storage committed"
    assert seen["modalities"] == ["CT"] * 3 + ["DOC", "OT"] + ["SEG"] * 3 + ["SR"]
    assert seen["viewer_config"]
    assert seen["page"] == 200
    assert seen["write_through_viewer"] == 403


def test_a_click_on_the_structured_report_draws_its_measurements_in_the_viewer_without_an_error(seen):
    need(os.environ.get("MMF_OHIF_SITE"), "MMF_OHIF_SITE, the folder dist/ of `npm pack @ohif/app@3.13.2`,")
    need(shutil.which("chromium"), "chromium")
    assert "Volume:" in seen["tour"]["drawn"]
    assert " mL" in seen["tour"]["drawn"]
    assert seen["tour"]["errors"] == []
