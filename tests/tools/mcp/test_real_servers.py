"""Servers that others wrote, from the registries: started, asked, cancelled, and gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from nanobot.config import McpServer
from nanobot.messages import ImagePart
from nanobot.testing import no_leaks
from tests.tools.mcp.servers import Caller, opened, texts

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600), pytest.mark.xdist_group("mcp-peers")]

CACHE: Final = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "nanobot-tests"
    / "mcp-servers"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

EVERYTHING, FILES = (
    "@modelcontextprotocol/server-everything",
    "@modelcontextprotocol/server-filesystem",
)


def installed(folder: Path, command: list[str]) -> Path:
    """Install into a folder that is kept, unless it was; skip where there is no registry."""
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"{command[0]} cannot install: {error}")
        if ran.returncode:
            pytest.skip(f"{command[0]} could not install: {ran.stderr[-300:]}")
        (folder / "installed").touch()
    return folder


@pytest.fixture(scope="module")
def node_programs() -> Path:
    """The folder of programs that npm made."""
    folder = CACHE / "npm"
    command = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(folder),
        EVERYTHING,
        FILES,
    ]
    return installed(folder, command) / "node_modules" / ".bin"


@pytest.fixture(scope="module")
def everything(node_programs: Path) -> Callable[..., McpServer]:
    def settings(**more: Any) -> McpServer:
        return McpServer(command=str(node_programs / "mcp-server-everything"), **more)

    return settings


@pytest.fixture(scope="module")
def clock() -> McpServer:
    folder = CACHE / f"time-{sys.version_info.major}.{sys.version_info.minor}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    installed(folder, [*pip, "mcp-server-time"])
    return McpServer(
        command=sys.executable, args=("-m", "mcp_server_time"), env={"PYTHONPATH": str(folder)}
    )


async def test_mcp_server_time(clock: McpServer, tmp_path: Path) -> None:
    async with no_leaks(), opened(clock=clock) as servers:
        await servers.ready()
        said = await texts(
            servers, tmp_path, "mcp_clock_get_current_time", '{"timezone": "Asia/Tokyo"}'
        )
        assert json.loads(said)["timezone"] == "Asia/Tokyo"
        wrong = await texts(servers, tmp_path, "mcp_clock_get_current_time", '{"timezone": "X"}')
        assert wrong.startswith("Error")


async def test_server_filesystem(node_programs: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    program = str(node_programs / "mcp-server-filesystem")
    files = McpServer(command=program, args=(str(tmp_path),))
    async with no_leaks(), opened(files=files) as servers:
        await servers.ready()

        async def call(name: str, **arguments: Any) -> str:
            return await texts(servers, tmp_path, f"mcp_files_{name}", json.dumps(arguments))

        assert await call("read_text_file", path=str(tmp_path / "a.txt")) == "hello"
        assert "Access denied" in await call("read_text_file", path="/etc/passwd")
        await call("write_file", path=str(tmp_path / "b.txt"), content="new")
        assert (tmp_path / "b.txt").read_text() == "new"


async def test_server_everything(everything: Callable[..., McpServer], tmp_path: Path) -> None:
    async with no_leaks(), opened(all=everything()) as servers:
        await servers.ready()
        assert await texts(servers, tmp_path, "mcp_all_echo", '{"message": "hi"}') == "Echo: hi"
        assert "is 3" in await texts(servers, tmp_path, "mcp_all_get-sum", '{"a": 1, "b": 2}')
        result = await Caller(servers, tmp_path).call("mcp_all_get-tiny-image")
        (image,) = [part for part in result.message.content if isinstance(part, ImagePart)]
        assert image.media_type == "image/png"
        weather = await texts(
            servers, tmp_path, "mcp_all_get-structured-content", '{"location": "New York"}'
        )
        assert "temperature" in json.loads(weather)
        wrong = await texts(servers, tmp_path, "mcp_all_get-sum", '{"a": "x"}')
        assert wrong.startswith("Error")


async def test_a_long_operation_is_cancelled_and_the_server_goes_on(
    everything: Callable[..., McpServer], tmp_path: Path
) -> None:
    async with no_leaks(), opened(all=everything()) as servers:
        await servers.ready()
        with trio.move_on_after(0.5) as scope:
            name, arguments = (
                "mcp_all_trigger-long-running-operation",
                '{"duration": 60, "steps": 60}',
            )
            await texts(servers, tmp_path, name, arguments)
        assert scope.cancelled_caught
        assert await texts(servers, tmp_path, "mcp_all_echo", '{"message": "hi"}') == "Echo: hi"


def stat(pid: int) -> list[str]:
    """What the kernel tells of a process: state, parent, …; nothing if it is gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def descendants() -> set[int]:
    """Processes below this one, keepers and servers."""
    everything = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    parents = {pid: int(told[1]) for pid in everything if (told := stat(pid)) and told[0] != "Z"}
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def cmdline(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def cpu_ticks(pid: int) -> int:
    return sum(map(int, stat(pid)[11:13]))


def named(program: str) -> set[int]:
    """Those whose program is given in their arguments, but for the keeper, which has it there too."""
    return {
        pid
        for pid in descendants()
        if program.encode() in (said := cmdline(pid)) and b"_keeper" not in said
    }


@pytest.fixture
def three(
    clock: McpServer, everything: Callable[..., McpServer], node_programs: Path, tmp_path: Path
) -> dict[str, McpServer]:
    files = McpServer(
        command=str(node_programs / "mcp-server-filesystem"), args=(str(tmp_path),), tool_timeout=60
    )
    return {"clock": clock, "all": everything(tool_timeout=60), "files": files}


@linux
async def test_a_server_that_is_killed_in_a_call_comes_back_and_delays_no_other(
    three: dict[str, McpServer], tmp_path: Path
) -> None:
    async with no_leaks(), opened(**three) as servers:
        await servers.ready()

        async def ask_the_clock() -> None:
            name, arguments = "mcp_clock_get_current_time", '{"timezone": "Asia/Tokyo"}'
            said = await texts(servers, tmp_path, name, arguments)
            assert json.loads(said)["timezone"] == "Asia/Tokyo"

        async def echo() -> str:
            return await texts(servers, tmp_path, "mcp_all_echo", '{"message": "hi"}')

        lost: list[str] = []

        async def call() -> None:
            lost.append(await echo())

        for _ in range(3):
            lost.clear()
            before = named("server-everything")
            async with trio.open_nursery() as nursery:
                for pid in before:
                    os.kill(pid, signal.SIGSTOP)
                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                await ask_the_clock()
                assert lost == []  # that call waits, and held nobody up
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                await ask_the_clock()
            assert "was lost during this call" in lost[0]
            with trio.fail_after(120):
                while (said := await echo()) != "Echo: hi":
                    assert said.startswith("Error"), said
            assert named("server-everything").isdisjoint(before)


@linux
async def test_three_servers_that_nobody_asks_cost_nothing_and_leave_nothing(
    three: dict[str, McpServer],
) -> None:
    async with opened(**three) as servers:
        await servers.ready()
        ours = [os.getpid(), *(pid for pid in descendants() if b"_keeper" in cmdline(pid))]
        assert len(ours) == 4
        began = {pid: cpu_ticks(pid) for pid in ours}
        await trio.sleep(10)
        used_s = sum(cpu_ticks(pid) - began[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")
        assert used_s < 0.01 * 10
        theirs = descendants()
        assert len(theirs) >= 6
        await servers.aclose()
        assert theirs.isdisjoint(descendants())
        assert not any(stat(pid) and stat(pid)[0] != "Z" for pid in theirs)


async def listening(port: int) -> None:
    while True:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.sleep(0.1)
        else:
            return


@pytest.mark.parametrize(("kind", "path"), [("streamableHttp", "/mcp"), ("sse", "/sse")])
async def test_server_everything_over_http(
    everything: Callable[..., McpServer], tmp_path: Path, kind: str, path: str
) -> None:
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = partial(
        trio.run_process,
        env={**os.environ, "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, [everything().command, kind])
        with trio.fail_after(120):
            await listening(port)
        web = McpServer(url=f"http://127.0.0.1:{port}{path}")
        async with no_leaks(), opened(web=web) as servers:
            await servers.ready()
            assert await texts(servers, tmp_path, "mcp_web_echo", '{"message": "hi"}') == "Echo: hi"
            with trio.move_on_after(0.5):
                name = "mcp_web_trigger-long-running-operation"
                await texts(servers, tmp_path, name, '{"duration": 60, "steps": 60}')
            assert await texts(servers, tmp_path, "mcp_web_echo", '{"message": "hi"}') == "Echo: hi"
        nursery.cancel_scope.cancel()
