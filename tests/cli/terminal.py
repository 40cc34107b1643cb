"""Terminals to drive commands in: a pseudo-terminal that is always there, and tmux, which knows what the screen shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["NANOBOT", "Pty", "Tmux", "open_pty", "open_tmux", "tmux_missing"]

NANOBOT = [sys.executable, "-m", "nanobot"]
LIMIT_S = 60.0

# Makes the pseudo-terminal the one that Ctrl-C comes from, and becomes the command.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[=>()][0-9A-Za-z]?)")


class Pty:
    """A command on a pseudo-terminal. `text` is all that it has written, without escape sequences."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._raw = b""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        with self._changed:
            return _ESCAPE.sub("", self._raw.decode(errors="replace")).replace("\r\n", "\n")

    def send(self, keys: str) -> None:
        """Press keys; `\\x03` is Ctrl-C, `\\r` Enter."""
        os.write(self._descriptor, keys.encode())

    def wait_for(self, wanted: str, *, after: int = 0) -> int:
        """Wait until the text shows up behind position `after`; returns the position behind it."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            with self._changed:
                found = self.text.find(wanted, after)
                if found >= 0:
                    return found + len(wanted)
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"{wanted!r} did not show up in:\n{self.text[-3000:]}")
                self._changed.wait(min(left, 0.2))

    def press_until_end(self, keys: str) -> int:
        """Press keys again and again until the command ends; returns its exit code. For readers that may miss a signal."""
        deadline = time.monotonic() + LIMIT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                self.send(keys)
                self.process.wait(0.3)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the command; returns its exit code."""
        code = self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return code

    def _read(self) -> None:
        while True:
            try:
                ready, _, _ = select.select([self._descriptor], [], [], 0.2)
                more = os.read(self._descriptor, 65536) if ready else None
            except (OSError, ValueError):  # the other end is closed
                break
            if more is None and self.process.poll() is None:
                continue
            if not more:
                break
            with self._changed:
                self._raw += more
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@contextmanager
def open_pty(
    *arguments: str, env: dict[str, str] | None = None, stdout: int | None = None
) -> Iterator[Pty]:
    """Run `nanobot` on a pseudo-terminal of 100 × 30; `stdout` may lead elsewhere."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *NANOBOT, *arguments],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **(env or {})},
    )
    os.close(theirs)
    try:
        yield Pty(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def tmux_missing() -> str:
    """Why tests in tmux cannot run here; "" if they can."""
    return "" if shutil.which("tmux") else "tmux is not installed (apt-get install tmux)"


class Tmux:
    """A shell in tmux, on a screen of 90 × 30."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def send(self, *keys: str) -> None:
        """Press keys by tmux's names for them: `Enter`, `C-c`, or text."""
        self._tmux("send-keys", *keys)

    def screen(self) -> str:
        """What the screen shows, without blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._tmux("capture-pane", "-p").splitlines())

    def wait_for(self, condition: str | Callable[[str], bool]) -> str:
        """Wait until the screen shows a text, or meets a condition; returns the screen."""
        met = (lambda shown: condition in shown) if isinstance(condition, str) else condition
        deadline = time.monotonic() + LIMIT_S
        while not met(shown := self.screen()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{condition!r} is not met by:\n{shown}")
            time.sleep(0.05)  # tmux has no way to wait for a change of the screen
        return shown

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def open_tmux(*, env: dict[str, str] | None = None) -> Iterator[Tmux]:
    """A tmux server of its own with one shell that knows `nanobot`."""
    socket = f"nanobot-test-{os.getpid()}-{time.monotonic_ns()}"
    settings = {"HOME": os.environ["HOME"], "PS1": "$ ", **(env or {})}
    words = [f"{name}={value}" for name, value in settings.items()]
    shell = shlex.join(["env", *words, "sh"])
    start = ["new-session", "-d", "-x", "90", "-y", "30", shell]
    try:
        subprocess.run(["tmux", "-L", socket, "-f", "/dev/null", *start], check=True)
        terminal = Tmux(socket)
        terminal.send(f"alias nanobot={shlex.quote(shlex.join(NANOBOT))}; clear", "Enter")
        terminal.wait_for(lambda shown: shown.strip() == "$")
        yield terminal
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["tmux", "-L", socket, "kill-server"], check=True, capture_output=True)
