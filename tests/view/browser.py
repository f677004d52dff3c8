"""Chromium by its DevTools protocol: as much of it as these tests need."""

import json
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import connect

START_SEC = 30.0
KEYS = {" ": "Space", "Tab": "Tab"}


@contextmanager
def chromium(program, folder):
    """A headless browser with a profile of its own."""
    command = [
        program,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--mute-audio",
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={folder}",
        "--remote-debugging-port=0",
        "about:blank",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Browser(_port(process, Path(folder) / "DevToolsActivePort"))
    finally:
        process.terminate()
        process.wait(START_SEC)


def _port(process, file):
    until = time.monotonic() + START_SEC
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"Chromium ended at once: {process.returncode}")
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise RuntimeError("Chromium did not start")


class Browser:
    """A running browser."""

    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}"

    @contextmanager
    def open(self, path, *, width=1200, height=900, scheme="light"):
        """A file in a tab, loaded."""
        request = urllib.request.Request(f"{self._url}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request) as reply:
            target = json.load(reply)
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab.call(f"{domain}.enable")
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            tab.call("Emulation.setDeviceMetricsOverride", **size)
            tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            tab.call("Page.navigate", url=Path(path).as_uri())
            tab.until("document.readyState === 'complete' && location.protocol === 'file:'")
            try:
                yield tab
            finally:
                tab.call("Page.close")


class Tab:
    """A page, and what it told meanwhile."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self.events = []

    def call(self, method, **parameters):
        """A command of the protocol; its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=START_SEC))
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def run(self, script):
        """The value of a JavaScript expression, or of what it promises; it may play, as if a user had clicked."""
        how = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        result = self.call("Runtime.evaluate", expression=script, **how)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def until(self, script, seconds=60.0):
        """Wait for an expression to be true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"not within {seconds} s: {script}"
            time.sleep(0.02)

    def press(self, key):
        """A key, down and up."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            code = KEYS.get(key, f"Key{key.upper()}" if key.isalpha() else f"Digit{key}")
            number = {"Tab": 9}.get(key, ord(key.upper()[0]))
            shared = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type=kind, **shared, **(text if kind == "keyDown" else {}))

    def click(self, selector):
        """The left button, in the middle of an element."""
        place = f"document.querySelector({json.dumps(selector)})"
        x, y = self.run(
            f"{place}.scrollIntoView({{block: 'center'}}), "
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])({place}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def complaints(self):
        """Errors and warnings on the console, of the content security policy too."""
        told = [event for event in self.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
        told += [e for e in self.events if e.get("method") == "Runtime.consoleAPICalled"]
        return [event["params"] for event in told]

    def requests(self):
        """Addresses that were asked for."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]
