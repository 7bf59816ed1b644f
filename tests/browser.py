"""A headless Chromium, driven through its own debugging protocol over pipes: no driver and no network is needed."""

import base64
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    # A root user, as in containers, has no sandbox.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # WebGL in software.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
# Chromium reads commands from descriptor 3 and answers on 4; these lead there whatever the pipes' own numbers are.
ON_PIPES = (
    "import fcntl, os, sys; r, w = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]); "
    "os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
DEADLINE = 120


def find_browser() -> str | None:
    """Return the Chromium of this machine, or the one that ``MSS_CHROMIUM`` names."""
    named = os.environ.get("MSS_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page of a browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb", 0), os.fdopen(answers, "rb")
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer; what else the browser says meanwhile is noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise ConnectionError("the browser has ended")
            content += byte
        return json.loads(content)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                url = params["request"]["url"]
                self.hosts |= {url.split("/")[2]} if "://" in url else set()

    def open(self, url: str) -> None:
        """Go to an address."""
        self.ask("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, of a promise when it is kept."""
        answer = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = DEADLINE) -> None:
        """Wait until a condition of JavaScript holds."""
        held = self.evaluate(
            f"""new Promise(resolve => {{
                const start = performance.now();
                const look = () => {{
                    let held = false;
                    try {{ held = {condition}; }} catch (error) {{ }}
                    if (held || performance.now() - start > {1000 * seconds}) resolve(Boolean(held));
                    else setTimeout(look, 30);
                }};
                look();
            }})"""
        )
        if not held:
            raise TimeoutError(f"not within {seconds} s: {condition}; the page said {self.errors}")

    def until(self, condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
        """Wait until a condition of this process holds, or for some seconds; the page goes on meanwhile."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self.evaluate("new Promise(resolve => setTimeout(resolve, 50))")

    def zoom_in(self, x: int, y: int, turns: int) -> None:
        """Turn the mouse's wheel with the control key held."""
        for _ in range(turns):
            self.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-120, modifiers=2)

    def screenshot(self, path: Path) -> np.ndarray:
        """Keep a picture of the page; return its pixels."""
        from PIL import Image

        content = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(content)
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@contextmanager
def open_browser(executable: str, width: int, height: int) -> Iterator[Page]:
    """Start a browser and yield a page of it; it ends with the block."""
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [executable, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        pipes = (read_commands, write_answers)
        process = subprocess.Popen(
            [sys.executable, "-c", ON_PIPES, *map(str, pipes), *command],
            pass_fds=pipes,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_commands)
        os.close(write_answers)
        page = None
        try:
            page = Page(commands, answers)
            yield page
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if page is not None:
                page._commands.close()
                page._answers.close()
