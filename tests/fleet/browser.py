"""A headless Chromium, spoken to over two pipes in its own protocol (chromedevtools.github.io/devtools-protocol)."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools import browser

WIDE, NARROW = (1280, 800), (360, 740)
PATIENCE = 30.0


def missing() -> str:
    """Why no page can be looked at here; empty where one can."""
    if browser.program() is None:
        return f"there is no browser; python3 -m tools.browser installs Debian's {browser.PACKAGE}"
    return "" if browser.axe_script().is_file() else "there is no axe; python3 -m tools.browser downloads it"


class Page:
    """One page in one browser."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.requested: list[str] = []
        """Every address that the page asked for."""
        (target,) = [info for info in self._call("Target.getTargets")["targetInfos"] if info["type"] == "page"][:1]
        self._session = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Accessibility", "Log"):
            self._call(f"{domain}.enable")
        self.complaints: list[str] = []
        """What the browser logged, such as that the page's own policy stopped something."""

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._read, 1 << 16)
            assert piece, "the browser has ended"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])
        return message

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != self._number:
            pass
        assert "error" not in message, f"{method}: {message['error']}"
        return dict(message["result"])

    def show(self, file: Path, *, size: tuple[int, int] = WIDE, dark: bool = False) -> None:
        """Load a page, at a size and in a color scheme."""
        width, height = size
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == NARROW)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=file.as_uri())
        while self._message().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def axe(self) -> list[str]:
        """What axe finds wrong, by WCAG 2.2 AA and its own best practices."""
        self._call("Runtime.evaluate", expression=browser.axe_script().read_text())
        results = self.ask("axe.run({resultTypes: ['violations', 'incomplete']})")
        assert len(results["passes"]) > 20, "axe looked at nothing"
        return [f"{rule['id']}: {rule['help']}: {rule['nodes'][0]['html'][:200]}" for rule in results["violations"]]

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def roles(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader announces."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        return [
            (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
            for node in nodes
            if not node.get("ignored") and "role" in node
        ]

    def picture(self, height: int | None = None) -> bytes:
        """The whole page as PNG, or its top."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def printed(self) -> bytes:
        """The page as PDF, on the paper that it asks for."""
        answer = self._call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(answer["data"])


@contextmanager
def opened(folder: Path) -> Iterator[Page]:
    """A browser with a profile of its own in `folder`, which resolves no name."""
    program = browser.program()
    assert program is not None
    commands, answers = os.pipe(), os.pipe()
    argv = [
        str(program), "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
        f"--user-data-dir={folder}", "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", "--font-render-hinting=none",
        *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank",
    ]  # fmt: skip

    def pipes() -> None:
        """The browser reads from 3 and writes to 4."""
        read, write = os.dup(commands[0]), os.dup(answers[1])
        os.dup2(read, 3)
        os.dup2(write, 4)

    process = subprocess.Popen(
        argv, preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(commands[0])
    os.close(answers[1])
    try:
        yield Page(commands[1], answers[0])
    finally:
        os.close(commands[1])
        os.close(answers[0])
        process.terminate()
        process.wait(PATIENCE)
