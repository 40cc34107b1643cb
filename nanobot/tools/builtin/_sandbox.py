"""A command line around a command that lets it see the workspace and the system's programs, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from nanobot.config import ExecSettings

__all__ = ["Sandbox", "sandboxed", "why_no_sandbox"]

_PROGRAMS: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
)

_FACTS: Final = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
)
"""Of /etc: what programs need to find their libraries, the network, and who they are. Keys and configurations are not
among them."""

_PROBE_S: Final = 10.0


class Sandbox(Struct, frozen=True):
    """What a command may touch.

    Attributes:
      workspace: The folder that it may change, resolved.
      known_as: How its owner spells that; the model may do so too.
      read: Further paths that it may read.
      write: Further paths that it may change.
    """

    workspace: str
    known_as: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, settings: ExecSettings, workspace: Path, known_as: str) -> Sandbox:
        """The sandbox of a workspace. A relative path in the settings starts there, as all others do."""

        def absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(str(workspace / Path(path).expanduser()) for path in paths if path)

        return cls(
            str(workspace),
            known_as,
            absolute(settings.sandbox_ro_binds),
            absolute(settings.sandbox_rw_binds),
        )


def sandboxed(
    bwrap: str, sandbox: Sandbox, arguments: Sequence[str], folder: str, *, hidden: Sequence[str]
) -> list[str]:
    """The command line of bubblewrap that runs `arguments` in `folder`. Opens nothing.

    Processes, shared memory and host name are the sandbox's own; the network is not. All capabilities are dropped,
    also those of root. /tmp is empty, and gone with the command; it is HOME too.

    Args:
      bwrap: The program.
      sandbox: What may be touched.
      arguments: What to run.
      folder: Where to run it; inside of what may be touched.
      hidden: Paths that it never sees, wherever they lie. They have to exist, for bubblewrap would make those that do
        not; folders end in a slash.
    """
    options = ["--die-with-parent", "--new-session", "--unshare-user-try", "--unshare-pid"]
    options += ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    for path in _PROGRAMS:
        options += ["--ro-bind-try", path, path]
    for name in _FACTS:
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    options += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in sandbox.read:
        options += ["--ro-bind-try", path, path]
    for path in (sandbox.workspace, *sandbox.write):
        options += ["--bind", path, path]
    if sandbox.known_as != sandbox.workspace:
        options += ["--symlink", sandbox.workspace, sandbox.known_as]
    for path in hidden:
        options += ["--tmpfs", path] if path.endswith("/") else ["--ro-bind", os.devnull, path]
    options += ["--setenv", "HOME", "/tmp", "--unsetenv", "TMPDIR", "--chdir", folder]
    return [bwrap, *options, "--", *arguments]


async def why_no_sandbox(bwrap: str | None) -> str:
    """Try whether bubblewrap works here; "" if it does, else the reason. Takes some milliseconds."""
    if bwrap is None:
        return "bubblewrap (bwrap) is not installed"
    command = [
        bwrap,
        "--unshare-user-try",
        "--unshare-pid",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "true",
    ]
    try:
        with trio.fail_after(_PROBE_S):
            tried = await trio.run_process(
                command,
                stdin=subprocess.DEVNULL,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
    except (OSError, trio.TooSlowError) as error:
        return f"bubblewrap cannot be started ({error})"
    said = tried.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
    return "" if tried.returncode == 0 else f"bubblewrap does not work here ({said})"
