"""A small MCP server over stdio, with nothing but the standard library; run as a program by the tests.

Its tools are below. The first argument is how it misbehaves, if it does; see `main`.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

TOOLS: list[dict[str, Any]] = [
    {
        "name": "echo",
        "description": "Say it again.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
        },
        "annotations": {"readOnlyHint": True},
    },
    *({"name": name, "inputSchema": {"type": "object"}} for name in (
        "environment", "fail", "picture", "structured", "resources", "large", "sleep", "die", "pid", "grow", "cancelled",
        "refuse", "hang",
    )),
]  # fmt: skip

cancelled: list[int] = []
hanging: list[int] = []


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": content}], **more}


def call(name: str, arguments: dict[str, Any], number: int) -> dict[str, Any] | None:
    """The result of a tool call, or None if there will be none."""
    match name:
        case "echo":
            return text(arguments["text"])
        case "environment":
            return text(json.dumps({"env": dict(os.environ), "cwd": str(Path.cwd())}))
        case "fail":
            return text("the disk is full", isError=True)
        case "picture":
            image = {
                "type": "image",
                "data": base64.b64encode(PNG).decode(),
                "mimeType": "image/png",
            }
            return {"content": [{"type": "text", "text": "look:"}, image]}
        case "structured":
            return {"content": [], "structuredContent": {"degrees": 21.5}}
        case "resources":
            return {
                "content": [
                    {"type": "resource", "resource": {"uri": "note://1", "text": "remember"}},
                    {"type": "resource", "resource": {"uri": "note://2", "blob": "AAEC"}},
                    {"type": "resource_link", "uri": "file:///a.txt", "name": "a.txt", "size": 3},
                    {"type": "audio", "data": "AAEC", "mimeType": "audio/mpeg"},
                ]
            }
        case "large":
            return text("x" * int(arguments["bytes"]))
        case "sleep":
            time.sleep(float(arguments["seconds"]))
            return text("slept")
        case "die":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(3)
        case "pid":
            return text(str(os.getpid()))
        case "grow":
            TOOLS.append({"name": "new", "inputSchema": {"type": "object"}})
            say({"method": "notifications/tools/list_changed"})
            return text("grown")
        case "cancelled":
            return text(json.dumps(cancelled))
        case "hang":
            hanging.append(number)
            return None
        case "new":
            return text("new indeed")
    raise LookupError(name)


def answer(message: dict[str, Any], misbehaves: str) -> dict[str, Any] | None:
    """The answer to a message, or None if there will be none."""
    method, number = message["method"], message.get("id")
    if method == "notifications/cancelled":
        cancelled.append(message["params"]["requestId"])
    if number is None:
        return None
    match method:
        case "initialize":
            if misbehaves == "hangs at initialize":
                return None
            result: dict[str, Any] | None = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "small", "version": "1"},
            }
        case "tools/list":
            if misbehaves == "hangs at list":
                return None
            if misbehaves == "pages":
                start = int(message.get("params", {}).get("cursor", 0))
                result = {"tools": TOOLS[start : start + 1]}
                if start + 1 < len(TOOLS):
                    result["nextCursor"] = str(start + 1)
            else:
                result = {"tools": TOOLS}
        case "tools/call":
            if misbehaves == "hangs in every call":
                while True:
                    time.sleep(60)
            params = message["params"]
            try:
                result = call(params["name"], params.get("arguments", {}), number)
            except LookupError:
                return {"id": number, "error": {"code": -32602, "message": "no such tool"}}
        case "ping":
            result = {}
        case _:
            return {"id": number, "error": {"code": -32601, "message": "method not found"}}
    return None if result is None else {"id": number, "result": result}


def become_a_daemon_too() -> None:
    """Leave a process behind that has another group, another session, no parent, and no ear for signals."""
    until_it_runs, never_written = os.pipe()
    if os.fork():
        os.close(never_written)
        os.read(until_it_runs, 1)  # closed by exec
        os.close(until_it_runs)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.close(0)
    os.execvp("sleep", ["sleep", sys.argv[2]])


def main(misbehaves: str) -> None:
    match misbehaves:
        case "dies at start":
            print("no configuration", file=sys.stderr)
            sys.exit(2)
        case "rubbish":
            while True:
                print("this is no MCP")
        case "one long line":
            while True:
                sys.stdout.write("x" * 2**20)
        case "greets":
            print("Welcome to the small server!", flush=True)
        case "floods stderr":
            if os.fork() == 0:
                while True:
                    os.write(2, b"careful!\n" * 1000)
        case "ignores every signal":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        case "has a daemon":
            become_a_daemon_too()
        case "has a child":
            subprocess.Popen(["sleep", "1000"])
        case "never reads":
            while True:
                time.sleep(60)
    for line in sys.stdin:
        if (answered := answer(json.loads(line), misbehaves)) is not None:
            say(answered)
    if misbehaves == "ignores every signal":
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
