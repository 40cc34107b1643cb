"""`exec`: what a command says, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.config import ExecSettings, ToolsSettings
from nanobot.errors import ToolTimedOut
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools._threads import FILE_THREADS
from nanobot.tools.builtin import Shell, builtin_tools
from nanobot.tools.builtin._command import Ended
from nanobot.tools.builtin._output import Output
from nanobot.tools.builtin.exec import _told

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")

ENV = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"}


def toolset_of(
    settings: ExecSettings | None = None,
    *,
    restrict: bool | None = None,
    env: Mapping[str, str] = ENV,
) -> Toolset:
    tools = ToolsSettings(exec=settings or ExecSettings(), restrict_to_workspace=restrict)
    return Toolset([Shell(tools, env).run])


async def called(
    context: RunContext, command: str, toolset: Toolset | None = None, **more: Any
) -> ToolResult:
    arguments = json.dumps({"command": command, **more})
    return await execute(ToolCall("1", "exec", arguments), toolset or toolset_of(), context)


async def told(context: RunContext, command: str, *args: Any, **more: Any) -> str:
    result = await called(context, command, *args, **more)
    assert isinstance(result.message.content, str)
    return result.message.content


def alive(marker: str) -> list[int]:
    """Processes that were started with this in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def until_alive(marker: str, count: int = 1) -> None:
    with trio.fail_after(20):
        while len(alive(marker)) < count:  # noqa: ASYNC110 - the process tells nobody
            await trio.sleep(0.01)


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_it_is_a_built_in_tool_that_runs_alone() -> None:
    (tool,) = (tool for tool in builtin_tools() if tool.spec.name == "exec")
    assert tool.traits.exclusive
    assert not tool.traits.read_only
    assert not tool.traits.on_host
    assert tool.spec.parameters["required"] == ["command"]
    assert list(tool.spec.parameters["properties"]) == [
        "command",
        "working_dir",
        "timeout",
        "shell",
        "login",
        "max_output_chars",
    ]
    off = ToolsSettings(exec=ExecSettings(enable=False))
    assert "exec" not in [tool.spec.name for tool in builtin_tools(off)]


async def test_tells_what_a_command_wrote_and_how_it_ended(context: RunContext) -> None:
    assert await told(context, "echo hello") == "hello\n\nExit code: 0"
    assert await told(context, "echo a; echo b >&2; exit 3") == "a\nSTDERR:\nb\n\nExit code: 3"
    assert await told(context, "true") == "\nExit code: 0"
    result = await called(context, "exit 1")
    assert result.ok  # what it means is for the model to say
    assert await told(context, "kill -9 $$") == "\nExit code: 137"
    assert "nosuch" in await told(context, "nosuch")
    assert (await told(context, "nosuch")).endswith("Exit code: 127")


async def test_runs_in_the_workspace_or_in_a_folder_of_it(context: RunContext, root: Path) -> None:
    (root / "sub").mkdir()
    here = os.path.realpath(root)  # noqa: ASYNC240 - one name
    assert await told(context, "pwd -P") == f"{here}\n\nExit code: 0"
    assert await told(context, "pwd -P", working_dir="sub") == f"{here}/sub\n\nExit code: 0"
    for outside in ("..", "/", "nosuch"):
        result = await called(context, "touch was-run", working_dir=outside)
        assert not result.ok
    assert names_in(root) == ["sub"]
    anywhere = RunContext(confined=Workspace(root, restrict=False))
    assert await told(anywhere, "pwd -P", working_dir="/") == "/\n\nExit code: 0"


async def test_the_shell_can_be_chosen(context: RunContext) -> None:
    assert await told(context, "echo $0", shell="sh") == f"{shutil.which('sh')}\n\nExit code: 0"
    if shutil.which("bash"):
        assert "bash" in await told(context, "echo $0")
        assert await told(context, "shopt -q login_shell", login=True) == "\nExit code: 0"
    nowhere = toolset_of(env={"PATH": "/nonexistent"})
    assert "There is no shell here" in await told(context, "true", nowhere)


async def test_there_is_nothing_to_read_on_stdin(context: RunContext) -> None:
    assert await told(context, "cat; read x; echo $?") == "1\n\nExit code: 0"


async def test_the_environment_is_minimal(context: RunContext) -> None:
    env = {**ENV, "SECRET_KEY": "canary", "WANTED": "yes", "LC_TIME": "C", "PYTHONPATH": "/x"}
    settings = ExecSettings(
        allowed_env_keys=("WANTED",), path_prepend="/first", path_append="/last"
    )
    shown = await told(context, "env", toolset_of(settings, env=env))
    assert "canary" not in shown
    assert "PYTHONPATH" not in shown
    names = {line.partition("=")[0] for line in shown.splitlines() if "=" in line}
    assert names - {"_", "SHLVL", "PWD", "OLDPWD"} == {
        *("HOME", "LANG", "LC_TIME", "PATH", "PYTHONUNBUFFERED", "TERM", "WANTED")
    }
    assert f"PATH=/first:{ENV['PATH']}:/last\n" in shown


async def test_what_is_on_the_deny_list_is_not_run(context: RunContext, root: Path) -> None:
    (root / "folder").mkdir()
    result = await called(context, "touch was-run; rm -rf folder")
    assert not result.ok
    assert "deletes folders" in str(result.error)
    assert names_in(root) == ["folder"]
    allowing = toolset_of(ExecSettings(allow_patterns=("rm -rf folder",)))
    assert (await called(context, "rm -rf folder", allowing)).ok
    assert names_in(root) == []


async def test_of_a_long_output_the_beginning_and_the_end_are_shown_and_the_rest_is_kept(
    context: RunContext, root: Path
) -> None:
    shown = await told(context, "seq 1 20000")
    assert shown.startswith("1\n2\n")
    assert shown.endswith("20000\n\nExit code: 0")
    assert len(shown) < 17_000
    (kept,) = (root / ".nanobot").rglob("*.txt")
    assert "\n10000\n" in kept.read_text()
    shown = await told(context, "seq 1 20000; seq 1 20000 >&2", max_output_chars=1000)
    assert "bytes are left out here" in shown
    assert len(shown) < 2_200


async def test_output_without_end_is_ended_and_never_held(context: RunContext) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await called(context, "yes")
    assert "wrote more than 268," in str(result.error)
    assert "Until then it wrote:\ny\ny\n" in str(result.error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # kB on Linux


async def test_bytes_that_are_no_text_are_shown(context: RunContext) -> None:
    assert await told(context, "printf 'a\\377\\000b'") == "a\ufffd\0b\n\nExit code: 0"


async def test_a_command_that_takes_too_long_is_ended_and_what_it_wrote_is_told(
    context: RunContext,
) -> None:
    result = await called(context, "sleep 1000", timeout=1)
    assert result.message.outcome == "timed_out"
    assert "timed out after 1 seconds" in str(result.error)
    output, errors = Output(100), Output(100)
    output.feed(b"begun\n")
    with pytest.raises(ToolTimedOut, match=r"^Command timed out after 1 .*\nbegun$"):
        _told(Ended("timed_out", 0), output, errors, 1.0)
    result = await called(context, "sleep 1000", toolset_of(ExecSettings(timeout=0.2)))
    assert "timed out after 0.2 seconds" in str(result.error)


async def test_a_command_that_cannot_be_passed_on_is_an_error(context: RunContext) -> None:
    for command, reason in (("", "empty"), ("a\0b", "NUL"), ("a" * 200_000, "100,000")):
        assert reason in await told(context, command)
    assert not (await called(context, "echo \ud800")).ok


ESCAPES = {
    "in the background": "sleep {m} & sleep {m}",
    "another session": "setsid sleep {m} & sleep {m}",
    "a daemon": "(setsid sleep {m} &) & sleep {m}",
    "no environment": "env -i setsid sleep {m} & sleep {m}",
    "deaf": "trap '' TERM HUP INT; sleep {m} & sleep {m}; sleep {m}",
    "deaf, in another session": "setsid sh -c 'trap \"\" TERM; sleep {m}; sleep {m}' & sleep {m}",
    "stopped": "sh -c 'kill -STOP $$' {m} & sleep {m}",
}


@linux
@pytest.mark.parametrize("way", ESCAPES)
async def test_nothing_survives_a_cancel(way: str, context: RunContext) -> None:
    marker = str(random.randint(10**8, 10**9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(called, context, ESCAPES[way].format(m=marker))
        await until_alive(f"sleep\0{marker}", 1 if way == "stopped" else 2)
        nursery.cancel_scope.cancel()
    assert alive(marker) == []


@linux
@pytest.mark.parametrize("way", ESCAPES)
async def test_nothing_survives_a_timeout(way: str, context: RunContext) -> None:
    marker = str(random.randint(10**8, 10**9))
    assert (await called(context, ESCAPES[way].format(m=marker), timeout=1)).message.outcome == (
        "timed_out"
    )
    assert alive(marker) == []


@linux
async def test_what_is_left_in_the_background_ends_with_the_command(context: RunContext) -> None:
    marker = str(random.randint(10**8, 10**9))
    command = f"setsid sleep {marker} & sleep {marker} & echo started"
    assert await told(context, command) == "started\n\nExit code: 0"
    assert alive(marker) == []


@linux
async def test_a_program_may_clean_up_before_it_is_killed(context: RunContext, root: Path) -> None:
    command = "trap 'touch cleaned; exit' TERM; touch ready; while :; do sleep 0.01; done"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(called, context, command)
        with trio.fail_after(20):
            while "ready" not in names_in(root):  # noqa: ASYNC110 - the process tells nobody
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert "cleaned" in names_in(root)


@linux
async def test_processes_that_keep_making_new_ones_are_caught(context: RunContext) -> None:
    marker = str(random.randint(10**8, 10**9))
    # It ends by itself: if it got away, it would eat the machine for ever.
    runner = "import os, time\nend = time.time() + 20\nwhile time.time() < end:\n  if os.fork(): os._exit(0)\n  os.setsid()"
    command = f"{sys.executable} -S -c '{runner}' {marker}; sleep {marker}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(called, context, command)
        await until_alive(f"sleep\0{marker}")
        nursery.cancel_scope.cancel()
    assert alive(marker) == []


@linux
async def test_nothing_survives_the_keepers_own_death(context: RunContext) -> None:
    marker = str(random.randint(10**8, 10**9))
    await called(context, f"sleep {marker} & sleep {marker} & kill -9 $PPID; sleep {marker}")
    assert alive(marker) == []


@linux
async def test_a_command_cannot_end_its_keeper_by_accident(context: RunContext) -> None:
    assert await told(context, "trap '' TERM; kill 0; echo on") == "on\n\nExit code: 0"
    assert await told(context, "kill -TERM $PPID; kill -HUP $PPID; echo on") == "on\n\nExit code: 0"


@linux
def test_nothing_survives_the_death_of_nanobot_itself(root: Path) -> None:
    marker = str(random.randint(10**8, 10**9))
    program = (
        "import os, sys, trio\n"
        "from nanobot.config import ToolsSettings\n"
        "from nanobot.messages import ToolCall\n"
        "from nanobot.tools import RunContext, Toolset, Workspace, execute\n"
        "from nanobot.tools.builtin import Shell\n"
        "tools = Toolset([Shell(ToolsSettings(), os.environ).run])\n"
        "context = RunContext(confined=Workspace(sys.argv[1]))\n"
        "trio.run(execute, ToolCall('1', 'exec', sys.argv[2]), tools, context)\n"
    )
    command = json.dumps({"command": f"setsid sleep {marker} & sleep {marker}"})
    with subprocess.Popen([sys.executable, "-c", program, str(root), command]) as child:
        deadline = time.monotonic() + 30
        while len(alive(f"sleep\0{marker}")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    while alive(f"sleep\0{marker}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@linux
async def test_a_storm_of_cancels_leaves_no_process_no_thread_no_descriptor(
    context: RunContext, root: Path
) -> None:
    marker = str(random.randint(10**8, 10**9))
    commands = [
        "echo x",
        f"sleep {marker}",
        f"setsid sleep {marker} & sleep {marker}",
        "seq 1 100000",
        f"trap '' TERM; sleep {marker}",
    ]
    rng = random.Random(random.getrandbits(64))

    async def one() -> None:
        with trio.move_on_after(rng.uniform(0, 0.3)):
            await called(context, rng.choice(commands))

    await called(context, "echo x")  # so that the engine has what it keeps open
    threads = threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(one)
    assert alive(marker) == []
    assert alive("_keeper.py") == [] or os.environ.get("PYTEST_XDIST_WORKER")  # others run theirs
    assert threading.active_count() <= threads + FILE_THREADS + 20
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208
    assert list(root.rglob("*.tmp")) == []  # noqa: ASYNC240 - a few names


async def test_many_commands_run_at_once_and_each_gets_its_own_output(context: RunContext) -> None:
    found: dict[int, str] = {}

    async def one(number: int) -> None:
        found[number] = await told(context, f"echo number {number}")

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, number)
    assert found == {number: f"number {number}\n\nExit code: 0" for number in range(50)}
