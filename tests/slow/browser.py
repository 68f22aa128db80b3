"""A headless Chromium driven over its own debugging pipe: opens a page, clicks, and keeps what the console and network say.

No WebSocket and no driver program: ``--remote-debugging-pipe`` reads commands from file descriptor 3 and answers on 4.
"""

import base64
import json
import os
import select
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--window-size=1400,900",
    "--remote-debugging-pipe",
)
"""Software rendering: the viewer draws with WebGL."""


class Browser:
    """One page. ``errors`` holds what a person would see in the developer tools in red."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict:
        """Sends a command and returns its result; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._commands, content) :]
        deadline = time.monotonic() + 120
        while (answer := self._read(deadline)).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def evaluate(self, expression: str) -> object:
        """Returns the value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float) -> object:
        """Returns the value of an expression as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{expression} was not true within {seconds} s; the page says: {self.text()}"
                )
            time.sleep(0.2)
        return value

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.evaluate("document.body.innerText"))

    def click(self, point: tuple[float, float], times: int = 1) -> None:
        """Presses and releases the mouse, as a person does."""
        x, y = point
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def shoot(self, path: Path) -> None:
        """Writes a picture of the page."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def _read(self, deadline: float) -> dict:
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser did not answer")
            content = os.read(self._answers, 1 << 20)
            if not content:
                raise RuntimeError("the browser has ended")
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict) -> None:
        """Keeps what an event says of an error."""
        what, told = event.get("method"), event.get("params", {})
        if what == "Runtime.consoleAPICalled" and told["type"] == "error":
            words = [str(one.get("value", one.get("description", ""))) for one in told["args"]]
            self.errors.append(f"console: {' '.join(words)}")
        elif what == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", "")
            self.errors.append(f"exception: {details['text']} {thrown}")
        elif what == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"log: {told['entry']['text']} {told['entry'].get('url', '')}")


@contextmanager
def open_browser(program: str, profile: Path):
    """Yields a browser with an empty page; ends it afterwards.

    Args:
        program: Chromium.
        profile: folder of its own, made when missing.
    """
    command_end, commands = os.pipe()
    answers, answer_end = os.pipe()

    def connect() -> None:
        first, second = os.dup(command_end), os.dup(answer_end)
        os.dup2(first, 3)
        os.dup2(second, 4)

    log = (profile.parent / f"{profile.name}.log").open("w")
    process = subprocess.Popen(
        [program, f"--user-data-dir={profile}", *ARGUMENTS],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=connect,
        close_fds=False,
    )
    os.close(command_end)
    os.close(answer_end)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)
        os.close(answers)
        process.terminate()
        process.wait(30)
        log.close()
