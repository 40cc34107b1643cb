"""What is alive in this process and could outlive a piece of work: tasks, files, sockets, threads, child processes."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import trio

__all__ = [
    "Living",
    "asyncio_tasks",
    "child_processes",
    "current_tasks",
    "open_files",
    "threads",
    "trio_tasks",
]


class Living(Protocol):
    """Something alive; equal to itself when it is counted again."""

    def __hash__(self) -> int: ...

    def describe(self) -> str:
        """What it is, for somebody who has to find out who left it behind."""
        ...


@dataclass(frozen=True)
class TrioTask:
    """A task of a Trio run."""

    task: trio.lowlevel.Task

    def describe(self) -> str:
        return f"Trio task {self.task.name!r}{_place(frame for frame, _ in self.task.iter_await_frames())}"


@dataclass(frozen=True)
class AsyncioTask:
    """A task of an asyncio loop."""

    task: asyncio.Task[Any]

    def describe(self) -> str:
        return f"asyncio task {self.task.get_name()!r}{_place(self.task.get_stack())}"


@dataclass(frozen=True)
class OpenFile:
    """A file descriptor and what it stands for: a path, or a kind and a number as in `socket:[4711]`."""

    descriptor: int
    target: str

    def describe(self) -> str:
        if self.target.startswith("socket:"):
            return f"socket {self.descriptor}{_addresses(self.descriptor)}"
        return f"file {self.descriptor}, {self.target}"


@dataclass(frozen=True)
class Thread:
    """A thread that Python knows."""

    thread: threading.Thread

    def describe(self) -> str:
        return f"thread {self.thread.name!r}{', a daemon' if self.thread.daemon else ''}"


@dataclass(frozen=True)
class ChildProcess:
    """A process that we started; its start time tells it from a later one with the same number."""

    pid: int
    started: str

    def describe(self) -> str:
        try:
            command = (
                Path(f"/proc/{self.pid}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
            )
        except OSError:
            command = ""
        return f"child process {self.pid}, {command.strip() or 'ended, but nobody waited for it'}"


def trio_tasks() -> set[Living]:
    """All tasks of the current Trio run, system tasks included."""
    found: set[Living] = set()
    root = trio.lowlevel.current_root_task()
    todo = [] if root is None else [root]
    while todo:
        task = todo.pop()
        found.add(TrioTask(task))
        for nursery in task.child_nurseries:
            todo.extend(nursery.child_tasks)
    return found


def asyncio_tasks() -> set[Living]:
    """All tasks of the running asyncio loop."""
    return {AsyncioTask(task) for task in asyncio.all_tasks()}


def current_tasks() -> set[Living]:
    """The task that asks, in whichever loop."""
    if trio.lowlevel.in_trio_task():
        return {TrioTask(trio.lowlevel.current_task())}
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        task = None
    return set() if task is None else {AsyncioTask(task)}


def open_files() -> set[Living]:
    """Everything that occupies a file descriptor. Linux only; elsewhere nothing is seen."""
    found: set[Living] = set()
    for entry in _entries(Path("/proc/self/fd")):
        try:
            found.add(OpenFile(int(entry.name), str(entry.readlink())))
        except OSError:
            continue  # closed meanwhile, as is the descriptor that the listing itself used
    return found


def threads() -> set[Living]:
    """All threads, but for the idle ones that Trio and asyncio keep for reuse."""
    # Only the name tells; a thread of Trio's that is at work bears the name of its work.
    return {
        Thread(thread)
        for thread in threading.enumerate()
        if not thread.name.startswith(("Trio thread ", "asyncio_"))
    }


def child_processes() -> set[Living]:
    """Our child processes, ended ones that nobody waited for included. Linux only; elsewhere nothing is seen.

    Python's own tracker of shared memory, which lives as long as the process, is left out.
    """
    found: set[Living] = set()
    ours = str(os.getpid())
    for entry in _entries(Path("/proc")):
        if not entry.name.isdecimal():
            continue
        try:
            # After the command's name, which may contain anything: state, parent, …; the 20th is the start time.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[1] == ours and not _is_resource_tracker(entry):
                found.add(ChildProcess(int(entry.name), fields[19]))
        except OSError:
            continue  # it ended meanwhile
    return found


def _is_resource_tracker(process: Path) -> bool:
    return b"multiprocessing.resource_tracker" in (process / "cmdline").read_bytes()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _addresses(descriptor: int) -> str:
    """From where to where a socket leads, as far as it has addresses."""
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        return ""
    with socket.socket(fileno=duplicate) as sock:
        ends: list[str] = []
        for name_of in (sock.getsockname, sock.getpeername):
            try:
                ends.append(_address(name_of()))
            except OSError:  # not connected
                break
    return f", {' -> '.join(ends)}" if any(ends) else ""


def _address(name: Any) -> str:
    if isinstance(name, tuple):
        return f"{name[0]}:{name[1]}"
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _place(frames: Iterable[FrameType]) -> str:
    """Where a task waits: its innermost frame that is not the event loop's own."""
    for frame in reversed(list(frames)):
        if not frame.f_globals.get("__name__", "").startswith(("trio.", "asyncio.")):
            code = frame.f_code
            return f", in {code.co_name} ({code.co_filename}:{frame.f_lineno})"
    return ""
