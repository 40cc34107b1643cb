"""The process between nanobot and a command: nothing that the command starts outlives it.

Started by `_kept` as a file and not as a module, so that it needs nothing but the standard library. Its arguments are
the descriptor that becomes the command's stdin ("-" for an empty one), and the command's own. Its own stdin is a pipe
whose other end only nanobot holds: when that is closed, the command is no longer wanted, or nanobot is gone, however it
went. It exits as the command did, with 128 + the signal for one that was killed.

On Linux every process that loses its parent becomes a child of this one (`PR_SET_CHILD_SUBREAPER`), also one that left
its process group and its session. So there is always a way down to all of them. Elsewhere only the process group is
reached. What runs as another user (`sudo`) cannot be signalled by anybody but that user.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["kill_kept"]

_TO_FINISH_S = 0.2
"""What a program has, after SIGTERM, to remove its lock files and the like. Most end within a millisecond."""

_TO_DIE_S = 10.0
"""How long processes are killed that keep making new ones. Ends with the last of them, in milliseconds as a rule; on a
machine with thirty processes for each core, looking for them alone takes seconds."""

_LOOK_EVERY_S = 0.005
_CHASES = 500
_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(stdin: str, arguments: list[str]) -> int:
    """Run the command and end all that it started; return the exit code."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # the lifeline decides, and it alone
        signal.signal(number, signal.SIG_IGN)
    _adopt_orphans()
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(awake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    command = _start(arguments, None if stdin == "-" else int(stdin))
    # Pipes that we held open would hide from nanobot that the command has closed them. Stderr is left for our own last words.
    os.close(1)
    if stdin != "-":
        os.close(int(stdin))
    reaped: dict[int, int] = {}
    wanted = True
    while wanted and command not in reaped:
        ready, _, _ = select.select([0, awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _reap(reaped)
        if 0 in ready:
            wanted = os.read(0, 4096) != b""
    _end(command, reaped)
    return os.waitstatus_to_exitcode(reaped[command]) if command in reaped else -signal.SIGKILL


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        import ctypes  # deferred: it costs half as much as all else here

        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _start(arguments: list[str], stdin: int | None) -> int:
    command = os.fork()
    if command:
        return command
    try:
        os.setpgid(0, 0)  # so that `kill 0` in the command does not reach its keeper
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        source = os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin
        os.dup2(source, 0)
        os.close(source)
        os.execvp(arguments[0], arguments)
    except OSError as error:
        os.write(2, f"{arguments[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _reap(reaped: dict[int, int]) -> bool:
    """Bury children that have ended; return whether there are others."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not pid:
            return True
        reaped[pid] = status


def _end(command: int, reaped: dict[int, int]) -> None:
    """End what is left: asked once, then killed until nothing remains."""
    started = time.monotonic()
    number, asked = signal.SIGTERM, False
    while _reap(reaped):
        elapsed_s = time.monotonic() - started
        if elapsed_s > _TO_FINISH_S:
            number = signal.SIGKILL
        if elapsed_s > _TO_FINISH_S + _TO_DIE_S:
            return
        if not asked or number is signal.SIGKILL:
            asked = True
            if command not in reaped:  # else its number may be another's by now
                _signal(-command, number)
            reached = [_signal(pid, number) for pid in list(_descendants(os.getpid()))]
            if reached and not any(reached):
                return  # what is left belongs to other users
        if number is signal.SIGKILL:
            _chase(reaped)
        time.sleep(_LOOK_EVERY_S)
    if sys.platform != "linux":  # what a command leaves behind there is nobody's child that we know
        _signal(-command, signal.SIGKILL)


def _chase(reaped: dict[int, int]) -> None:
    """Kill those that change their number faster than all processes can be looked through.

    A process that forks and exits, again and again, has us as parent each time, and the newest child comes last.
    """
    ours = Path(f"/proc/self/task/{os.getpid()}/children")
    for _ in range(_CHASES):
        try:
            children = ours.read_bytes().split()
        except OSError:  # not Linux, or one without CONFIG_PROC_CHILDREN
            return
        for pid in reversed(children):
            _signal(int(pid), signal.SIGKILL)
        if not _reap(reaped):
            return


def _signal(pid: int, number: signal.Signals) -> bool:
    """Whether a signal was sent, or not needed any more."""
    try:
        os.kill(pid, number)
    except PermissionError:
        return False
    except OSError:
        pass
    return True


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for pid, parent, _ in _processes():
        children.setdefault(parent, []).append(pid)
    pending = [root]
    while pending:
        found = children.get(pending.pop(), [])
        pending += found
        yield from found


def _processes() -> Iterator[tuple[int, int, int]]:
    """Number, parent and session of every process that lives, where the system has /proc."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - text is what is wanted
    except OSError:
        return
    for name in names:
        if name.isdecimal():
            try:
                stat = Path("/proc", name, "stat").read_bytes()
            except OSError:  # gone by now
                continue
            # The name in parentheses may contain anything. Source: proc_pid_stat(5).
            state, parent, _, session, *_ = stat[stat.rindex(b")") + 2 :].split()
            if state != b"Z":
                yield int(name), int(parent), int(session)


def kill_kept(keeper: int) -> None:
    """Kill a keeper that does not answer, or is dead, and what it kept as far as it can still be found. Blocks."""
    deadline = time.monotonic() + _TO_DIE_S
    while time.monotonic() < deadline:
        found = list(_descendants(keeper))  # while it lives, they are below it
        found += [pid for pid, _, session in _processes() if session == keeper and pid != keeper]
        # One that was being started while we looked is found the next time.
        if not any([_signal(pid, signal.SIGKILL) for pid in found]):  # noqa: C419 - all of them
            break
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2:])
    os._exit(code if code >= 0 else 128 - code)
