"""Commands in a sandbox: what its command line says, and what it keeps from those who are inside."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from nanobot.config import ExecSettings, ToolsSettings
from nanobot.messages import ToolCall
from nanobot.tools import RunContext, ToolResult, Toolset, Workspace, execute
from nanobot.tools.builtin import Shell
from nanobot.tools.builtin._sandbox import Sandbox, sandboxed, why_no_sandbox

ENV = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(Path.home()), "TMPDIR": "/var/tmp"}


def works() -> str:
    return trio.run(why_no_sandbox, shutil.which("bwrap"))


NO_SANDBOX = works() if sys.platform == "linux" else "bubblewrap is for Linux"
in_sandbox = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)


async def called(
    context: RunContext,
    command: str,
    *,
    settings: ExecSettings | None = None,
    restrict: bool | None = None,
    env: dict[str, str] = ENV,
    working_dir: str = ".",
) -> ToolResult:
    tools = ToolsSettings(
        exec=settings or ExecSettings(sandbox="bwrap"), restrict_to_workspace=restrict
    )
    arguments = json.dumps({"command": command, "working_dir": working_dir})
    toolset = Toolset([Shell(tools, env).run])
    return await execute(ToolCall("1", "exec", arguments), toolset, context)


async def told(context: RunContext, command: str, **more: object) -> str:
    result = await called(context, command, **more)  # type: ignore[arg-type]  # passed on as they are
    assert isinstance(result.message.content, str)
    return result.message.content


def test_the_command_line_binds_what_may_be_touched_and_hides_the_rest() -> None:
    sandbox = Sandbox("/ws", "/link", read=("/data",), write=("/cache",))
    line = sandboxed(
        "/bin/bwrap", sandbox, ["sh", "-c", "x"], "/ws/sub", hidden=["/ws/state/", "/ws/key"]
    )
    assert line[0] == "/bin/bwrap"
    assert line[-4:] == ["--", "sh", "-c", "x"]
    options = " ".join(line)
    for part in (
        "--die-with-parent",
        "--new-session",  # else a command could type into our terminal
        "--unshare-user-try",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--cap-drop ALL",
        "--ro-bind-try /usr /usr",
        "--tmpfs /tmp",
        "--ro-bind-try /data /data",
        "--bind /ws /ws",
        "--bind /cache /cache",
        "--symlink /ws /link",
        "--tmpfs /ws/state/",
        "--ro-bind /dev/null /ws/key",
        "--chdir /ws/sub",
        "--setenv HOME /tmp",
    ):
        assert part in options
    assert "--bind / " not in options
    assert "--bind /data" not in options
    assert "/home" not in options
    # What is mounted later lies above: the hidden comes last.
    assert options.index("--bind /cache") < options.index("--tmpfs /ws/state/")
    assert options.index("--tmpfs /tmp") < options.index("--bind /ws")


def test_paths_of_the_settings_start_at_the_workspace() -> None:
    settings = ExecSettings(sandbox_ro_binds=("/data", "sub"), sandbox_rw_binds=("~/cache", ""))
    sandbox = Sandbox.from_settings(settings, Path("/ws"), "/ws")
    assert sandbox.read == ("/data", "/ws/sub")
    assert sandbox.write == (str(Path.home() / "cache"),)


async def test_what_is_forbidden_and_there_is_hidden_from_each_command(
    root: Path, tmp_path: Path
) -> None:
    """With a program that says how it was called, in the place of bubblewrap."""
    says = tmp_path / "says"
    says.write_text("#!/bin/sh\necho $*\n")
    says.chmod(0o755)
    (root / "state").mkdir()
    (root / "key").write_text("secret")
    forbidden = [root / "state", root / "key", root / "missing"]
    context = RunContext(confined=Workspace(root, forbidden=forbidden))
    shell = Shell(ToolsSettings(exec=ExecSettings(sandbox="bwrap")), ENV)
    shell._find = lambda workspace: str(says)
    result = await execute(
        ToolCall("1", "exec", '{"command": "ls"}'), Toolset([shell.run]), context
    )
    options = str(result.message.content)
    assert f"--tmpfs {root}/state/ --ro-bind {os.devnull} {root}/key --setenv" in options


async def test_without_a_sandbox_what_must_be_confined_is_not_run(
    context: RunContext, root: Path
) -> None:
    nowhere = ExecSettings(sandbox="bwrap", path_prepend="/nonexistent")
    shell = Shell(ToolsSettings(exec=nowhere), ENV)
    shell._find = lambda workspace: None
    tools = Toolset([shell.run])
    result = await execute(ToolCall("1", "exec", '{"command": "touch x"}'), tools, context)
    assert "tools.exec.sandbox is 'bwrap', and a command cannot be confined here" in str(
        result.error
    )
    assert "not installed" in str(result.error)
    shell = Shell(ToolsSettings(restrict_to_workspace=True), ENV)
    shell._find = lambda workspace: "/bin/false"
    tools = Toolset([shell.run])
    result = await execute(ToolCall("1", "exec", '{"command": "touch x"}'), tools, context)
    assert "tools.restrictToWorkspace is true, and" in str(result.error)
    assert "bubblewrap does not work here" in str(result.error)
    assert list(root.iterdir()) == []  # noqa: ASYNC240 - nothing, or one name


@in_sandbox
async def test_the_workspace_can_be_changed_and_nothing_else_seen(
    context: RunContext, root: Path
) -> None:
    (root.parent / "secret").write_text("canary")
    (root / "sub").mkdir()
    assert await told(context, "echo x > a; cat a; pwd", working_dir="sub") == (
        f"x\n{root / 'sub'}\n\nExit code: 0"
    )
    assert (root / "sub" / "a").read_text() == "x\n"
    for command in (
        f"cat {root.parent}/secret",
        "cat ../secret",
        f"ls {Path.home()}",
        "cat /etc/shadow",
        "echo x > /usr/made",
        "ln -s /etc/shadow l && cat l",
        f"cat /proc/{os.getpid()}/environ",
        f"cat /proc/1/root{root.parent}/secret",
        "mount -t tmpfs none /usr",
        "mknod disk b 8 0",
        "chroot /proc/1/root true",
    ):
        shown = await told(context, command)
        assert "canary" not in shown
        assert not shown.endswith("Exit code: 0"), command
    # These succeed, on a disk that is gone with the sandbox.
    await told(context, f"echo x > {root.parent}/made; echo x > /etc/made")
    made = [root.parent / "made", Path("/etc/made")]
    assert [path for path in made if path.exists()] == []


@in_sandbox
async def test_an_explicit_restriction_is_a_sandbox(context: RunContext, root: Path) -> None:
    (root.parent / "secret").write_text("canary")
    plain = ExecSettings()
    command = "cat ../secret; echo on"
    assert "canary" in await told(context, command, settings=plain)
    assert "canary" in await told(context, command, settings=plain, restrict=False)
    confined = await told(context, command, settings=plain, restrict=True)
    assert "canary" not in confined
    assert confined.endswith("Exit code: 0")


@in_sandbox
async def test_the_forbidden_is_hidden_also_inside_the_workspace(root: Path) -> None:
    (root / "state").mkdir()
    (root / "state" / "session").write_text("canary")
    (root / "config.json").write_text("canary")
    forbidden = [root / "state", root / "config.json", root / "not-there"]
    context = RunContext(confined=Workspace(root, forbidden=forbidden))
    shown = await told(context, "cat state/* config.json; grep -r canary .; ls")
    assert "canary" not in shown.replace("grep -r canary", "")
    assert not (root / "not-there").exists()
    assert (root / "config.json").read_text() == "canary"


@in_sandbox
async def test_a_workspace_behind_a_link_has_both_names(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    context = RunContext(confined=Workspace(link))
    assert await told(context, f"echo x > {link}/a; cat {root}/a") == "x\n\nExit code: 0"


@in_sandbox
async def test_more_can_be_bound(context: RunContext, root: Path) -> None:
    for name in ("read", "write"):
        (root.parent / name).mkdir()
        (root.parent / name / "a").write_text(name)
    settings = ExecSettings(
        sandbox="bwrap",
        sandbox_ro_binds=(str(root.parent / "read"), "/nonexistent"),
        sandbox_rw_binds=(str(root.parent / "write"),),
    )
    shown = await told(
        context,
        "cat ../read/a ../write/a; echo b > ../write/b; echo b > ../read/b",
        settings=settings,
    )
    assert shown.startswith("readwrite\nSTDERR:")
    assert (root.parent / "write" / "b").exists()
    assert not (root.parent / "read" / "b").exists()


@in_sandbox
async def test_temporary_files_are_gone_with_the_command(context: RunContext) -> None:
    assert await told(context, "echo x > ~/f; echo x > /tmp/g; cat /tmp/f ~/g") == (
        "x\nx\n\nExit code: 0"
    )
    assert await told(context, "cat /tmp/f 2>/dev/null") == "\nExit code: 1"


@in_sandbox
async def test_the_network_is_that_of_the_machine(context: RunContext) -> None:
    """Documented as such: what a command sends is not confined."""
    if not shutil.which("bash"):
        pytest.skip("needs bash for /dev/tcp")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert await told(context, f": < /dev/tcp/127.0.0.1/{port}") == "\nExit code: 0"


@in_sandbox
async def test_nothing_survives_a_cancel(context: RunContext) -> None:
    marker = str(random.randint(10**8, 10**9))
    command = f"setsid sh -c 'trap \"\" TERM; sleep {marker}; sleep {marker}' & sleep {marker}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(called, context, command)
        with trio.fail_after(20):
            while len(_alive(marker)) < 2:  # noqa: ASYNC110 - the process tells nobody
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert _alive(marker) == []


def _alive(marker: str) -> list[str]:
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if line.startswith(f"sleep {marker}")]
