"""The services of compose.yaml as processes, with the very same files, in a network of their own (``unshare -mn``).

Each service gets its name and an address of the compose network on the loopback of the namespace; the mounts of
compose.yaml are bind mounts. Run by test_compose_stack.py as ``unshare -mn python -m tests.slow.compose_stack FOLDER``;
prints one line of JSON.
With MMF_OHIF_SITE, the folder of OHIF's built site, and Chromium, the viewer is real and the Structured Report is opened in it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from node.dicom.send import PeerAddress, SendSettings, send_objects
from node.job import JobState
from node.storage.jobs import SqliteJobs
from tests.slow.browser import open_browser
from tests.small_study import write_small_study

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
ADDRESSES = {"node": "10.213.47.3", "orthanc": "10.213.47.4", "ohif": "10.213.47.5"}
VIEWER = f"http://{ADDRESSES['ohif']}:8080"
NGINX = """daemon off;
worker_processes 1;
user root;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    include {conf};
}}
"""
"""What the image's own nginx.conf is around conf.d/default.conf, with files of this run."""
DRAWN = "[...document.querySelectorAll('svg text')].map(one => one.textContent).find(one => one.includes('Volume:'))"
"""What the viewer writes beside the contour of a measurement group, once it has drawn one."""


def main() -> None:
    """Runs the stack once and tells what was seen."""
    folder = Path(sys.argv[1])
    site = os.environ.get("MMF_OHIF_SITE", "")
    prepare_namespace(folder, Path(site) if site else None)
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    seen = {}
    with ExitStack() as stack:
        stack.enter_context(
            running(folder, "orthanc", ["Orthanc", *compose["services"]["orthanc"]["command"]])
        )
        wait_healthy(compose, "orthanc")
        environment = {"MMF_CONF": str(folder / "etc-mmf-node"), "OMP_NUM_THREADS": "1"}
        serve = [sys.executable, "-m", "node", "serve", "--data", str(folder / "data")]
        stack.enter_context(running(folder, "node", serve, environment))
        stack.enter_context(running(folder, "ohif", ["nginx", "-c", str(folder / "nginx.conf")]))
        wait_healthy(compose, "ohif")
        os.environ["MMF_CONF"] = environment["MMF_CONF"]
        wait(lambda: node_healthy(folder), 60, "the node's health check")
        seen["healthy"] = True
        study = write_small_study(folder / "scanner", 2)
        archive = PeerAddress(host="orthanc", port=4242, ae_title="ORTHANC")
        answers = send_objects(study.paths, archive, SendSettings(ae_title="MMFSEND"))
        seen["stored"] = sum(one.answer == "STORED" for one in answers)
        with SqliteJobs(folder / "data" / "node.sqlite") as jobs:
            wait(jobs.find, 120, "the study from Orthanc")
            wait(
                lambda: jobs.find()[0].state in {JobState.DONE, JobState.SHELVED, JobState.UNCONFIRMED},
                600,
                "the job",
            )
            (job,) = jobs.find()
            seen["job"] = {
                "state": job.state,
                "outcome": job.outcome,
                "error": job.error,
                "shown_to": job.shown_to,
            }
            seen["moves"] = [f"{move.state} {move.detail}" for move in jobs.history(job.job_id)]
        series = json.loads(ask(f"{VIEWER}/dicom-web/studies/{study.study_instance_uid}/series")[1])
        seen["modalities"] = sorted(one["00080060"]["Value"][0] for one in series)
        seen["viewer_config"] = "/dicom-web" in ask(f"{VIEWER}/app-config.js")[1]
        seen["page"] = ask(f"{VIEWER}/viewer?StudyInstanceUIDs={study.study_instance_uid}")[0]
        seen["write_through_viewer"] = ask(f"{VIEWER}/dicom-web/studies", b"x")[0]
        chromium = shutil.which("chromium")
        if site and chromium:
            seen["tour"] = take_tour(study.study_instance_uid, chromium, folder)
    sys.stdout.write(json.dumps(seen) + "\n")


def take_tour(study: str, chromium: str, folder: Path) -> dict:
    """Opens the study in the viewer, double-clicks the Structured Report as a radiologist does, and tells what is shown.

    The browser comes by the loopback address that compose.yaml publishes: the viewer needs an origin that browsers trust.
    """
    with open_browser(chromium, folder / "browser") as browser:
        browser.ask("Page.navigate", url=f"http://127.0.0.1:8080/viewer?StudyInstanceUIDs={study}")
        for words in ("Skip all", "Confirm and hide"):
            browser.click(browser.wait(place_of(words), 300))
            browser.wait(f"!document.body.innerText.includes({json.dumps(words)})", 300)
        browser.click(browser.wait(place_of("MMF measurements"), 300), times=2)
        drawn = browser.wait(DRAWN, 300)
        browser.shoot(folder / "viewer.png")
        return {"drawn": drawn, "errors": browser.errors}


def place_of(words: str) -> str:
    """An expression for the middle of the innermost element that shows the words, null while there is none."""
    return (
        "(() => { const found = [...document.querySelectorAll('*')].filter(one => one.checkVisibility()"
        f" && one.innerText?.includes({json.dumps(words)})).at(-1);"
        " if (!found) return null; const box = found.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )


def prepare_namespace(folder: Path, site: Path | None) -> None:
    """Names, addresses and mounts, seen by this process and its children alone."""
    run("ip", "link", "set", "lo", "up")
    hosts = ["127.0.0.1 localhost"]
    for name, address in ADDRESSES.items():
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
        hosts.append(f"{address} {name}")
    (folder / "hosts").write_text("\n".join(hosts) + "\n")
    run("mount", "--make-rprivate", "/")
    run("mount", "--bind", str(folder / "hosts"), "/etc/hosts")
    etc = folder / "etc-orthanc"
    etc.mkdir()
    for name in ("orthanc.json", "route.lua"):
        shutil.copy(CONF / "compose" / name, etc / name)
    run("mount", "--bind", str(etc), "/etc/orthanc")
    run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/orthanc")
    Path("/var/lib/orthanc/db").mkdir()
    shutil.copytree(CONF, folder / "etc-mmf-node")
    shutil.copy(CONF / "compose" / "node.toml", folder / "etc-mmf-node" / "node.toml")
    html = folder / "html"
    if site is None:
        html.mkdir()
        (html / "index.html").write_text(
            "<p>stand-in for the viewer's page: MMF_OHIF_SITE names the real site</p>"
        )
    else:
        shutil.copytree(site, html)
    shutil.copy(CONF / "compose" / "viewer.js", html / "app-config.js")
    run("mount", "--bind", str(html), "/usr/share/nginx/html")
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, conf=CONF / "compose" / "viewer.conf"))


@contextmanager
def running(folder: Path, name: str, command: list[str], environment: dict[str, str] | None = None):
    """A service's process, ended by SIGTERM."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "TCP_NODELAY": "1", **(environment or {})},
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def wait_healthy(compose: dict, service: str) -> None:
    """Waits until the health check that compose.yaml gives the service passes."""
    command = compose["services"][service]["healthcheck"]["test"][1:]
    wait(
        lambda: subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0,
        60,
        f"the health check of {service}",
    )


def node_healthy(folder: Path) -> bool:
    """The health check of the Dockerfile, with this run's data folder."""
    command = [sys.executable, "-m", "node", "status", "--healthy", "--data", str(folder / "data")]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def ask(url: str, body: bytes | None = None) -> tuple[int, str]:
    """Status and text of a GET, or of a POST with a body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def wait(condition, seconds: float, what: str) -> None:
    """Returns when the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {seconds} s")
        time.sleep(0.2)


def run(*command: str) -> None:
    """Runs a program that must succeed."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
