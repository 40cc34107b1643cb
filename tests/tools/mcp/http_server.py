"""A small MCP server over HTTP, with nothing but the standard library; run as a program by the tests.

Arguments: a file that gets a line per request, and how it misbehaves, if it does. The first line on stdout is its port.
It serves streamable HTTP at /mcp, as JSON or, at /stream, as event streams; and the older SSE transport at /sse.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.tools.mcp import stdio_server

LOG, MISBEHAVES = Path(sys.argv[1]), sys.argv[2]

sessions: set[str] = set()
streams: dict[str, queue.Queue[dict[str, Any]]] = {}
announcements: queue.Queue[dict[str, Any]] = queue.Queue()
lock = threading.Lock()


def note(text: str) -> None:
    with lock, LOG.open("a") as file:
        file.write(text + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing: the log is a file."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        message = json.loads(body)
        method, session = message.get("method"), self.headers.get("mcp-session-id")
        note(f"POST {method}")
        if self.path.startswith("/messages"):
            self._answer_on_stream(message)
            return
        if MISBEHAVES == "hangs":
            time.sleep(3600)
        if MISBEHAVES == "500":
            self._send(500, "text/plain", b"out of order")
            return
        if MISBEHAVES == "html":
            self._send(200, "text/html", b"<p>Please log in.")
            return
        if method == "initialize":
            session = uuid.uuid4().hex
            sessions.add(session)
        elif session not in sessions:
            self._send(
                404,
                "application/json",
                b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"who?"}}',
            )
            return
        if "id" not in message:
            if method == "notifications/cancelled":
                note(f"cancelled {message['params']['requestId']}")
            self._send(202, "text/plain", b"")
            return
        if MISBEHAVES == "500 in a call" and method == "tools/call":
            self._send(500, "text/plain", b"out of order")
            return
        answer = self._answer(message)
        if answer is None:
            time.sleep(3600)
        elif self.path == "/stream":
            data = f"event: message\ndata: {json.dumps(answer)}\n\n".encode()
            self._send(200, "text/event-stream", data, session)
        else:
            self._send(200, "application/json", json.dumps(answer).encode(), session)

    def do_GET(self) -> None:
        note(f"GET {self.path}")
        if self.path == "/sse":
            mine: queue.Queue[dict[str, Any]] = queue.Queue()
            streams["it"] = mine
            self._begin_stream()
            self.wfile.write(b"event: endpoint\ndata: /messages?key=it\n\n")
            while True:
                self._event(mine.get())
        if self.path == "/stream":
            self._begin_stream()
            while True:
                self._event(announcements.get())
        self._send(405, "text/plain", b"")

    def do_DELETE(self) -> None:
        note(f"DELETE {self.headers['mcp-session-id'] in sessions}")
        if MISBEHAVES == "does not let go":
            time.sleep(3600)
        sessions.discard(self.headers["mcp-session-id"])
        self._send(200, "text/plain", b"")

    def _answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        params = message.get("params", {})
        if message["method"] == "tools/call":
            match params["name"]:
                case "environment":
                    return self._result(
                        message,
                        stdio_server.text(
                            json.dumps(
                                {name.lower(): value for name, value in self.headers.items()}
                            )
                        ),
                    )
                case "die":
                    os._exit(3)
                case "pid":  # what it is now called by
                    sessions.clear()
                    return self._result(message, stdio_server.text("forgotten"))
                case "grow":
                    announcements.put({"method": "notifications/tools/list_changed"})
                    stdio_server.TOOLS.append({"name": "new", "inputSchema": {"type": "object"}})
                    return self._result(message, stdio_server.text("grown"))
        with lock:
            answered = stdio_server.answer(message, "")
        return answered and {"jsonrpc": "2.0", **answered}

    def _answer_on_stream(self, message: dict[str, Any]) -> None:
        if "id" in message and (answer := self._answer(message)) is not None:
            streams["it"].put(answer)
        self._send(202, "text/plain", b"")

    def _result(self, message: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    def _send(self, status: int, kind: str, body: bytes, session: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if session is not None:
            self.send_header("mcp-session-id", session)
        self.end_headers()
        self.wfile.write(body)

    def _begin_stream(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()

    def _event(self, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message})
        self.wfile.write(f"event: message\ndata: {data}\n\n".encode())
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=exit_with_stdin, daemon=True).start()
    server.serve_forever()


def exit_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
