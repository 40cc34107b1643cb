"""A stand-in for the package `xllamacpp`: the same door, and behind it a server of a few words.

The tests install it as `xllamacpp/__init__.py` in a folder of their own. Its "model" file is a script in JSON that says
how starting goes. It answers every request with "one two three four"; what the user says decides how that goes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class CommonParams:
    """Takes every setting, as the real one does."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(path="")
        self.sampling = SimpleNamespace()
        self.cpuparams = SimpleNamespace()
        self.cpuparams_batch = SimpleNamespace()
        self.hostnames: list[str] = []
        self.api_keys: list[str] = []
        self.port = -1


class Server:
    """Follows the script of the model file, then serves."""

    def __init__(self, parameters: CommonParams) -> None:
        script: dict[str, Any] = json.loads(Path(parameters.model.path).read_text("utf-8"))
        if "starts" in script:
            with Path(script["starts"]).open("a", encoding="utf-8") as starts:
                starts.write(f"{os.getpid()}\n")
        if "prints" in script:
            os.write(1, script["prints"].encode())
        if "logs" in script:
            sys.stderr.write(script["logs"])
            sys.stderr.flush()
        if script.get("ignores_sigterm"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if "stuck_s" in script:
            ctypes.PyDLL(None).sleep(script["stuck_s"])  # as native code that holds the GIL
        while "waits_for" in script and not Path(script["waits_for"]).exists():
            time.sleep(0.005)
        if "raises" in script:
            raise RuntimeError(script["raises"])
        if "signal" in script:
            os.kill(os.getpid(), script["signal"])
        if "log_forever" in script:
            threading.Thread(target=_log_forever, daemon=True).start()
        address = (parameters.hostnames[0], parameters.port)
        server = _KeyedServer(address, _Answer, parameters.api_keys)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.listening_address = "http://{}:{}".format(*server.server_address[:2])


class _KeyedServer(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: Any, keys: list[str]) -> None:
        super().__init__(address, handler)
        self.keys = keys

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up


class _Answer(BaseHTTPRequestHandler):
    server: _KeyedServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] not in [f"Bearer {key}" for key in self.server.keys]:
            self.send_error(401)
            return
        said = request["messages"][-1]["content"]
        if said == "die before you answer":
            os.kill(os.getpid(), signal.SIGKILL)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for word in ("one", " two", " three", " four"):
            self._send_choice({"delta": {"content": word}, "index": 0, "finish_reason": None})
            if said == "die halfway":
                time.sleep(0.05)  # what was written must be on its way before the socket is reset
                os.kill(os.getpid(), signal.SIGKILL)
            if said == "stop halfway":
                time.sleep(60)
        self._send_choice({"delta": {}, "index": 0, "finish_reason": "stop"})
        self._send("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _send_choice(self, choice: dict[str, Any]) -> None:
        self._send(json.dumps({"object": "chat.completion.chunk", "choices": [choice]}))

    def _send(self, event: str) -> None:
        line = f"data: {event}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _log_forever() -> None:
    while True:
        os.write(2, b"the same complaint again\n" * 2000)
        time.sleep(0.01)
