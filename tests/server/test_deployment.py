"""The files that docs/deployment.md shows do what the page says: with a real nginx in front, and systemd's own checker."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from nanobot.server import ServerSettings
from nanobot.testing import Answer, ScriptedProvider, Stall
from tests.gateway.conftest import Client, open_stage
from tests.server.servers import chat, events_of, make_bot, serving

pytestmark = pytest.mark.peer

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"


def shown(language: str) -> list[str]:
    """The blocks of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


def installed(program: str, package: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt install {package})")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def nginx(folder: Path, http: str) -> AsyncIterator[None]:
    """A real nginx with these blocks, for the length of a block."""
    program = installed("nginx", "nginx-light")
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.geteuid() == 0 else ""  # or its workers could not write here
    text = f"{user}pid {folder}/pid;\ndaemon off;\nevents {{}}\nhttp {{\naccess_log off;\n{places}{http}}}\n"
    config = folder / "nginx.conf"
    config.write_text(text)
    command = [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(config)]
    checked = await trio.run_process([*command, "-t"], capture_stderr=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode()
    async with trio.open_nursery() as nursery:
        process = await nursery.start(trio.run_process, command)
        port = int(re.findall(r"listen (\S+);", http)[0].rpartition(":")[2])
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                break
            except OSError:
                await trio.sleep(0.05)
        try:
            yield
        finally:
            process.terminate()


def server_blocks(port: int, upstream: int) -> str:
    """The page's blocks for `nanobot serve`, without TLS and on ports of ours."""
    block = next(block for block in shown("nginx") if "upstream nanobot" in block)
    block = block.replace("127.0.0.1:8900", f"127.0.0.1:{upstream}")
    return block.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")


async def test_streams_pass_nginx_as_they_are_said_and_its_client_leaving_reaches_the_server(
    tmp_path: Path,
) -> None:
    stalls = Answer("one two", fault=Stall(after_deltas=1))
    provider = ScriptedProvider(["Hello there.", stalls])
    bot = make_bot(tmp_path, provider)
    port = free_port()
    async with (
        bot,
        serving(bot, ServerSettings(api_key="k")) as served,
        nginx(tmp_path, server_blocks(port, served.port)),
    ):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        headers = {"authorization": "Bearer k", "host": "agent.example.com"}
        async with httpx.AsyncClient(trust_env=False, timeout=30, headers=headers) as client:
            whole = await client.post(url, json=chat("hi", stream=True))
            assert events_of(whole.text)[-1] == "[DONE]"
        body = json.dumps(chat("hi", stream=True)).encode()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: agent.example.com\r\n"
                b"authorization: Bearer k\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            received = b""
            while b"one" not in received:  # it came though the answer goes on
                received += await stream.receive_some()
            assert bot.runtime.statistics().live_runs == 1
        with trio.fail_after(20):
            while bot.runtime.statistics().live_runs:  # noqa: ASYNC110 - nginx tells it when it likes
                await trio.sleep(0.01)


async def test_page_and_websocket_pass_nginx_under_one_name(tmp_path: Path) -> None:
    port = free_port()
    origin = "http://chat.example"
    async with open_stage(
        path="/ws",
        token="canary.0123456789",
        public_url=f"ws://127.0.0.1:{port}/ws",
        allowed_origins=(origin,),
    ) as stage:
        block = next(block for block in shown("nginx") if "location /ws" in block)
        block = block.replace("127.0.0.1:8765", f"127.0.0.1:{stage.settings.websocket_port}")
        block = block.replace("127.0.0.1:18790", f"127.0.0.1:{stage.settings.http_port}")
        async with nginx(tmp_path, f"server {{ listen 127.0.0.1:{port};\n{block}}}\n"):
            async with httpx.AsyncClient(trust_env=False) as http:
                page = await http.get(f"http://127.0.0.1:{port}/")
                assert f"ws://127.0.0.1:{port}/ws" in page.headers["content-security-policy"]
            async with open_websocket_url(
                f"ws://127.0.0.1:{port}/ws?token=canary.0123456789",
                extra_headers=[(b"origin", origin.encode())],
            ) as websocket:
                client = Client(websocket)
                await client.say("hi")
                await client.until("turn_end")
                assert client.text() == "Hello there."


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    program = installed("systemd-analyze", "systemd")
    (unit,) = (block for block in shown("ini") if "[Service]" in block)
    path = tmp_path / "nanobot.service"
    path.write_text(unit.replace("/opt/nanobot/bin/nanobot", "/bin/true"))
    command = [program, "verify", "--man=no", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    about_ours = [line for line in checked.stderr.splitlines() if "nanobot" in line]
    assert (checked.returncode, about_ours) == (0, [])
    path.write_text(unit.replace("Restart=on-failure", "Restart=perhaps"))
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "perhaps" in checked.stderr  # it would say so
