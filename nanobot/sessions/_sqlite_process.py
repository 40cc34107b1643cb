"""Which process an owner of leases lives in, and whether it is known to be dead."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

from msgspec import Struct

__all__ = ["Process", "is_dead", "this_process"]

_PROC: Final = Path("/proc")

# Fields of /proc/PID/stat after the name, which is in parentheses and may contain anything. Source: proc_pid_stat(5).
_STATE: Final = 0
_START_TIME: Final = 19


class Process(Struct, frozen=True):
    """A process, named so that no later one is taken for it.

    Attributes:
      scope: Where its number means something: one boot of one kernel, and one namespace of process ids. Containers that share a
        file do not share the numbers.
      pid: Its number.
      started: When it started, in the kernel's own units; "" if this system does not say.
    """

    scope: str
    pid: int
    started: str


def this_process() -> Process:
    """The process that calls."""
    _, started = _state_and_start(os.getpid())
    return Process(_scope(), os.getpid(), started)


def is_dead(process: Process) -> bool:
    """Whether the process is certainly gone. What cannot be told from here, is alive."""
    if process.scope != _scope() or os.name != "posix":  # elsewhere `kill` does what it says
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it exists, and is somebody else's
    if not process.started:
        return False
    state, started = _state_and_start(process.pid)
    # A zombie has let go of everything but its number.
    return state in ("Z", "X") or started not in ("", process.started)


def _scope() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return f"{platform.system()} {platform.node()}"
    return f"{boot} {namespace}"


def _state_and_start(pid: int) -> tuple[str, str]:
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[_STATE].decode(), fields[_START_TIME].decode()
    except (OSError, IndexError, UnicodeDecodeError):
        return "", ""
