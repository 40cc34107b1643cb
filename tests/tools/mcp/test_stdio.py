"""Servers that are child processes: what they return, how they misbehave, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import trio

from actors import trio_home
from nanobot.config import McpServer
from nanobot.messages import FilePart, ImagePart, Part, TextPart
from nanobot.testing import no_leaks
from nanobot.tools import ToolResult
from nanobot.tools.mcp import McpServers
from tests.tools.mcp.servers import Caller, opened, small, texts
from tests.tools.mcp.stdio_server import PNG


@pytest.fixture(autouse=True, scope="module")
def _mcp_is_loaded() -> None:
    """Importing it takes seconds, in a thread that a cancelled start leaves alone: no leak, but no_leaks cannot know."""
    importlib.import_module("nanobot.tools.mcp._connect")


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def parts_of(result: ToolResult) -> tuple[Part, ...]:
    assert isinstance(result.message.content, tuple)
    return result.message.content


def group_is_gone(number: int) -> bool:
    """Whether no process of a group runs; what is dead and only waits for an init that takes its time, does not."""
    try:
        os.killpg(number, 0)
    except (ProcessLookupError, PermissionError):
        return True
    return sys.platform == "linux" and all(state == "Z" for state in states_of_group(number))


def states_of_group(number: int) -> list[str]:
    states = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group, *_ = path.read_text().rpartition(")")[2].split()
            if int(group) == number:
                states.append(state)
    return states


async def test_a_tool_is_offered_with_its_schema_and_returns_text(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        assert not servers.known
        await servers.ready()
        tools = {tool.spec.name: tool for tool in servers.known}
        echo = tools["mcp_small_echo"]
        assert echo.spec.description == "Say it again."
        assert echo.spec.parameters["required"] == ["text"]
        assert echo.traits.read_only
        assert echo.traits.timeout_s == 30
        assert not tools["mcp_small_die"].traits.read_only
        assert tools["mcp_small_die"].spec.parameters == {"type": "object", "properties": {}}
        assert await texts(servers, tmp_path, "mcp_small_echo", '{"text": "häh?"}') == "häh?"
        assert servers.known is servers.known


async def test_an_error_of_the_tool_is_an_error_result(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        result = await Caller(servers, tmp_path).call("mcp_small_fail")
        assert (result.ok, result.message.outcome) == (False, "error")
        assert result.message.content == "Error: the disk is full"
        refused = await texts(servers, tmp_path, "mcp_small_refuse")
        assert refused == "Error: The MCP server 'small' refuses this: no such tool"


async def test_an_image_is_shown_from_a_file_in_the_workspace(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        result = await Caller(servers, tmp_path).call("mcp_small_picture")
        look, told, image = parts_of(result)
        assert look == TextPart("look:")
        assert isinstance(told, TextPart)
        assert isinstance(image, ImagePart)
        assert image.media_type == "image/png"
        assert await trio.Path(image.source).read_bytes() == PNG
        assert Path(image.source).is_relative_to(tmp_path)
        assert f"image/png, {len(PNG)} bytes, in the file .nanobot/tool-results" in told.text


async def test_resources_are_text_or_files(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        result = await Caller(servers, tmp_path).call("mcp_small_resources")
        note, told, blob, link, heard, sound = parts_of(result)
        assert note == TextPart("[resource note://1]\nremember")
        assert isinstance(told, TextPart)
        assert told.text.startswith("[resource note://2: application/octet-stream, 3 bytes, in")
        assert isinstance(blob, FilePart)
        assert await trio.Path(blob.path).read_bytes() == b"\0\1\2"
        assert link == TextPart("[resource file:///a.txt: a.txt, 3 bytes]")
        assert isinstance(heard, TextPart)
        assert isinstance(sound, FilePart)
        assert sound.path.endswith(".mp3")


async def test_structured_content_is_shown_where_there_is_no_text(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        assert await texts(servers, tmp_path, "mcp_small_structured") == '{"degrees":21.5}'


async def test_ten_megabytes_arrive_and_are_kept_in_a_file(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        text = await texts(servers, tmp_path, "mcp_small_large", '{"bytes": 10000000}')
        assert "10,000,000 characters" in text
        (kept,) = tmp_path.glob(".nanobot/tool-results/*/*.txt")  # noqa: ASYNC240 - a small folder
        assert kept.stat().st_size == 10_000_000


async def test_a_server_sees_an_ordinary_environment_and_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    server = small(env={"TOKEN": "its own", "TERM": "dumb"}, cwd=str(tmp_path))
    async with opened(small=server) as servers:
        await servers.ready()
        seen = json.loads(await texts(servers, tmp_path, "mcp_small_environment"))
        assert seen["cwd"] == str(tmp_path)
        assert seen["env"]["TOKEN"] == "its own"
        assert seen["env"]["TERM"] == "dumb"
        assert seen["env"]["PATH"] == os.environ["PATH"]
        assert "OPENAI_API_KEY" not in seen["env"]


async def test_only_enabled_tools_are_offered_and_a_server_without_any_is_not_started() -> None:
    async with opened(
        small=small(enabled_tools=("echo", "mcp_small_fail")), none=small(enabled_tools=())
    ) as servers:
        assert len(servers) == 1
        await servers.ready()
        assert {tool.spec.name for tool in servers.known} == {"mcp_small_echo", "mcp_small_fail"}


async def test_a_long_list_comes_in_pages() -> None:
    async with opened(whole=small(), paged=small("pages")) as servers:
        await servers.ready()
        names = [tool.spec.name for tool in servers.known]
        whole = [name.removeprefix("mcp_whole_") for name in names if "_whole_" in name]
        paged = [name.removeprefix("mcp_paged_") for name in names if "_paged_" in name]
        assert whole == paged


async def test_a_tool_that_appears_is_offered_to_the_next_turn(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        before = servers.known
        assert await texts(servers, tmp_path, "mcp_small_grow") == "grown"
        with trio.fail_after(10):
            while servers.known is before:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        assert await texts(servers, tmp_path, "mcp_small_new") == "new indeed"


async def test_a_cancelled_call_is_cancelled_at_the_server_too(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        with trio.move_on_after(0.2):
            await texts(servers, tmp_path, "mcp_small_hang")
        assert len(json.loads(await texts(servers, tmp_path, "mcp_small_cancelled"))) == 1


async def test_a_call_that_takes_too_long_says_so(tmp_path: Path) -> None:
    async with opened(small=small(tool_timeout=0.5)) as servers:
        with trio.fail_after(30):
            while not servers.known:
                await servers.ready()
                await trio.sleep(0.01)
        result = await Caller(servers, tmp_path).call("mcp_small_hang")
        assert result.message.outcome == "timed_out"


async def test_a_server_that_dies_in_a_call_is_there_for_the_next(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        died = await texts(servers, tmp_path, "mcp_small_die")
        assert "was lost during this call: it exited with status 3." in died
        assert "out of luck" not in died  # what it wrote is for the log: it may hold secrets
        assert await texts(servers, tmp_path, "mcp_small_echo", '{"text": "again"}') == "again"


async def test_a_server_that_is_killed_is_there_again(tmp_path: Path) -> None:
    async with opened(small=small()) as servers:
        await servers.ready()
        first = await texts(servers, tmp_path, "mcp_small_pid")
        os.kill(int(first), signal.SIGKILL)
        with trio.fail_after(10):
            pid = ""
            while not pid.isdigit():  # a call or two may be lost with it
                pid = await texts(servers, tmp_path, "mcp_small_pid")
        assert pid != first


@pytest.mark.parametrize("habit", ["greets", "floods stderr", "has a child"])
async def test_bad_habits_do_no_harm_and_end_with_the_server(tmp_path: Path, habit: str) -> None:
    async with no_leaks():
        async with opened(small=small(habit)) as servers:
            await servers.ready()
            assert await texts(servers, tmp_path, "mcp_small_echo", '{"text": "fine"}') == "fine"
            group = int(await texts(servers, tmp_path, "mcp_small_pid"))
    assert group_is_gone(group)


async def test_a_server_that_ignores_every_signal_is_gone_all_the_same(tmp_path: Path) -> None:
    with trio.fail_after(60):  # whoever waits for it to end by itself waits for ever
        async with opened(small=small("ignores every signal")) as servers:
            await servers.ready()
            group = int(await texts(servers, tmp_path, "mcp_small_pid"))
    assert group_is_gone(group)


def alive(marker: str) -> list[int]:
    """Processes that were started with this in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def with_a_daemon(marker: str) -> McpServer:
    settings = small("has a daemon")
    return msgspec.structs.replace(settings, args=(*settings.args, marker))


@linux
@pytest.mark.parametrize("goes", ["by our closing", "by itself", "killed"])
async def test_a_daemon_of_a_server_is_gone_with_it(tmp_path: Path, goes: str) -> None:
    marker = str(random.randint(10**8, 10**9))
    async with opened(small=with_a_daemon(marker)) as servers:
        await servers.ready()
        server = int(await texts(servers, tmp_path, "mcp_small_pid"))
        (daemon,) = alive(f"sleep\0{marker}")
        if goes == "killed":
            os.kill(server, signal.SIGKILL)
        elif goes == "by itself":
            await texts(servers, tmp_path, "mcp_small_die")
        if goes != "by our closing":
            with trio.fail_after(20):
                while daemon in alive(marker):  # noqa: ASYNC110 - the process tells nobody
                    await trio.sleep(0.01)
    assert alive(marker) == []


@linux
def test_nothing_of_a_server_survives_the_death_of_nanobot_itself() -> None:
    marker = str(random.randint(10**8, 10**9))
    program = (
        "import sys, trio\n"
        "from actors import trio_home\n"
        "from nanobot.config import McpServer\n"
        "from nanobot.tools.mcp import McpServers\n"
        "async def main():\n"
        "    settings = McpServer(command=sys.argv[1], args=tuple(sys.argv[2:]))\n"
        "    servers = McpServers({'small': settings}, home=trio_home())\n"
        "    await servers.ready()\n"
        "    print('ready', flush=True)\n"
        "    await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    settings = with_a_daemon(marker)
    command = [sys.executable, "-c", program, settings.command, *settings.args]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as nanobot:
        assert nanobot.stdout is not None
        assert nanobot.stdout.readline() == b"ready\n"
        assert len(alive(f"\0has a daemon\0{marker}")) >= 2  # the server and its keeper
        assert alive(f"sleep\0{marker}")
        nanobot.kill()
    deadline = time.monotonic() + 30
    while left := alive(marker):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.parametrize(
    "misbehaves",
    [
        "dies at start", "rubbish", "one long line", "hangs at initialize", "hangs at list", "never reads",
    ],
)  # fmt: skip
async def test_a_hostile_server_harms_neither_turns_nor_other_servers(
    tmp_path: Path, misbehaves: str
) -> None:
    async with no_leaks():
        async with opened(bad=small(misbehaves, tool_timeout=2), good=small()) as servers:
            with trio.fail_after(60):
                await servers.ready()
                while not servers.known:  # noqa: ASYNC110 - a busy machine may start the good one late
                    await trio.sleep(0.01)
            assert all(tool.spec.name.startswith("mcp_good_") for tool in servers.known)
            assert await texts(servers, tmp_path, "mcp_good_echo", '{"text": "fine"}') == "fine"


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (McpServer(command="/no/such/program"), "cannot be started: No such file"),
        (McpServer(command="x\0y"), "cannot be started"),
        (McpServer(), r"lacks `url` \(or `command`\)"),
        (McpServer(type="stdio", url="http://127.0.0.1:9"), "lacks `command`"),
        (small("rubbish"), "wrote 1001 lines to stdout that are no MCP"),
        (small("one long line"), "sent a message of more than 32 MiB"),
    ],
    ids=range(6),
)
async def test_a_server_that_cannot_be_used_is_explained_in_the_log(
    server: McpServer, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(bad=server) as servers:
        await servers.ready()
        assert servers.known == ()
        await trio.testing.wait_all_tasks_blocked()
    record = next(record for record in caplog.records if record.name == "actors.supervisor")
    assert record.getMessage().startswith("MCP server bad failed")
    assert record.exc_info
    assert re.search(reason, str(record.exc_info[1]))


@pytest.mark.parametrize("seed", range(4))
async def test_calls_that_are_cancelled_anywhere_leave_the_server_as_it_was(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    async with no_leaks():
        async with opened(one=small(), two=small()) as servers:
            await servers.ready()

            async def some() -> None:
                for _ in range(10):
                    name = f"mcp_{rng.choice(['one', 'two'])}_{rng.choice(['echo', 'hang', 'picture', 'die', 'large'])}"
                    arguments = '{"text": "x", "bytes": 300000}'
                    with trio.move_on_after(rng.random() * 0.05):
                        await texts(servers, tmp_path, name, arguments)

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(some)
            for name in ("one", "two"):
                with trio.fail_after(20):
                    said = ""
                    while said != "fine":  # it died a few times, and is being started again
                        said = await texts(
                            servers, tmp_path, f"mcp_{name}_echo", '{"text": "fine"}'
                        )
                        await trio.sleep(0.05)


@pytest.mark.parametrize("seed", range(4))
async def test_closing_at_any_moment_leaves_nothing(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with no_leaks():
        for _ in range(8):
            async with opened(one=small(), two=small("dies at start")) as servers:
                with trio.move_on_after(rng.random() * 0.3):
                    await servers.ready()
                    await texts(servers, tmp_path, "mcp_one_echo", '{"text": "x"}')
                    await texts(servers, tmp_path, "mcp_one_hang")


def test_a_run_of_trio_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    group = 0

    async def main() -> None:
        nonlocal group
        servers = McpServers({"small": small("has a child")}, home=trio_home())
        await servers.ready()
        group = int(await texts(servers, tmp_path, "mcp_small_pid"))
        raise LookupError  # nobody closes them

    with no_leaks():
        with pytest.raises(LookupError):
            trio.run(main)
        assert group_is_gone(group)
