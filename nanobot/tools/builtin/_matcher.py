"""A program that tells which of the lines it is sent match: ripgrep, or Python where there is none.

Both read lines from a pipe and open nothing, so what they see is what the workspace opened for them. Both need time in
proportion to the text, whatever the pattern, unless it is one that only Python's `re` knows. That may need for ever, so
it runs where it can be killed: each piece of text has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import trio
from msgspec import Struct, field
from trio.lowlevel import RunVar

from nanobot.errors import ToolError

__all__ = ["Found", "Hit", "Matcher", "Query", "find_ripgrep", "open_matcher"]

_AT_ONCE: Final = 4
"""Searches of one Trio run that have a program at the same time; others wait. More would only share the processors."""

_SLOWEST_S: Final = 5.0
"""Seconds for one piece of text, and one more for each 2 MB. ripgrep needs 0.03 s for 2 MB if all is well, Python 0.2 s."""

_BYTES_PER_S: Final = 2_000_000

_LAST_BREATH_S: Final = 10.0
"""A program that was killed is gone at once, unless the system itself hangs."""

_LONGEST_PATTERN: Final = 10_000
"""Characters; it is passed on a command line."""

_PROGRAM: Final = Path(__file__).with_name("_line_matcher.py")

_searches: RunVar[trio.Semaphore] = RunVar("nanobot.tools.searches")


class Query(Struct, frozen=True):
    """What a line has to match.

    Raises:
      ToolError: It cannot be passed on.
    """

    pattern: str
    ignore_case: bool = False
    fixed: bool = False

    def check(self) -> None:
        """Refuse what no program can be asked."""
        if not self.pattern:
            raise ToolError("The pattern is empty; it would match everything.")
        if len(self.pattern) > _LONGEST_PATTERN:
            raise ToolError(
                f"The pattern has {len(self.pattern):,} characters; {_LONGEST_PATTERN:,} are the limit."
            )
        if not self.pattern.isprintable() and any(c in self.pattern for c in "\n\r\0"):
            raise ToolError(
                "A pattern matches within one line; it cannot contain a line break or NUL."
            )
        if any("\ud800" <= c <= "\udfff" for c in self.pattern):
            raise ToolError("The pattern contains half of a character.")


class Hit(NamedTuple):
    """A line that matches.

    Attributes:
      line: Its number in the text, from 1.
      column: The byte in it where the match begins, from 0.
      offset: The byte of the text where the line begins.
    """

    line: int
    column: int
    offset: int


class Found(Struct):
    """The lines of one text that match: how many, and the first of them."""

    count: int = 0
    hits: list[Hit] = field(default_factory=list)


class PatternRefused(ToolError):
    """The program does not accept the pattern; the text says why."""


def find_ripgrep(workspace: Path, search_path: str | None = None) -> str | None:
    """Where ripgrep is on the search path, but for the workspace, where anybody may put anything. Blocks."""
    found = shutil.which("rg", path=search_path)
    if found is None or not os.path.isabs(found) or not hasattr(os, "killpg"):  # noqa: PTH117 - text
        return None
    return None if Path(found).resolve().is_relative_to(workspace.resolve()) else found


@contextlib.asynccontextmanager
async def open_matcher(query: Query, ripgrep: str | None) -> AsyncIterator[Matcher]:
    """Start a program for a query; it is dead when the block ends.

    A pattern that ripgrep refuses, such as one that looks ahead, is given to Python.

    Raises:
      ToolError: The pattern is none.
    """
    query.check()
    mark = f"nanobot-{secrets.token_hex(16)}"
    async with _one_of_few():
        refused = ""
        for command in _commands(query, mark, ripgrep):
            process = await _start(command)
            try:
                matcher = Matcher(process, mark.encode())
                try:
                    await matcher.search(
                        [], 0
                    )  # an answer to no text at all: the pattern is accepted
                except PatternRefused as error:
                    refused = refused or str(error)
                    continue
                yield matcher
                return
            finally:
                _kill(process)
                with trio.move_on_after(_LAST_BREATH_S, shield=True):
                    await _buried(process)
        raise ToolError(f"The pattern cannot be used: {refused}. Use fixed_strings for plain text.")


@contextlib.asynccontextmanager
async def _one_of_few() -> AsyncIterator[None]:
    try:
        searches = _searches.get()
    except LookupError:
        searches = trio.Semaphore(_AT_ONCE)
        _searches.set(searches)
    async with searches:
        yield


def _commands(query: Query, mark: str, ripgrep: str | None) -> list[list[str]]:
    commands = []
    if ripgrep is not None:
        commands.append(
            [
                ripgrep,
                *(
                    "--no-config",
                    "--text",
                    "--encoding=none",
                    "--crlf",
                    "--threads=1",
                    "--color=never",
                ),
                *("--line-number", "--column", "--byte-offset", "--no-filename", "--no-heading"),
                *("--max-columns=1", "--line-buffered"),
                "--ignore-case" if query.ignore_case else "--case-sensitive",
                *(["--fixed-strings"] if query.fixed else []),
                f"--regexp={query.pattern}",
                f"--regexp={mark}",
                "-",
            ]
        )
    if sys.executable and not getattr(sys, "frozen", False):
        flags = ("i" if query.ignore_case else "") + ("f" if query.fixed else "")
        commands.append(
            [sys.executable, *("-I", "-Wignore", str(_PROGRAM), mark, flags, query.pattern)]
        )
    if not commands:
        raise ToolError("grep needs ripgrep (rg) here, for Python is part of another program.")
    return commands


async def _start(command: list[str]) -> trio.Process:
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return await trio.lowlevel.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=os.sep,
        env=kept | {"LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )


def _kill(process: trio.Process) -> None:
    """Kill a program and whatever it started."""
    if process.returncode is None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


async def _buried(process: trio.Process) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            await pipe.aclose()
    await process.wait()


class Matcher:
    """A program that was started; it is asked one thing at a time."""

    def __init__(self, process: trio.Process, mark: bytes) -> None:
        self._process = process
        self._mark = mark
        self._lines = 0  # how many it was sent
        self._bytes = 0

    async def search(self, texts: Sequence[bytes], most_hits: int) -> list[Found]:
        """Look for lines that match, in several texts; return what there is in each, and at most `most_hits` hits in all.

        Raises:
          PatternRefused: The program does not accept the pattern.
          ToolError: It takes too long, or broke.
        """
        size = sum(map(len, texts))
        longest_s = _SLOWEST_S + size / _BYTES_PER_S
        reading = _Reading(texts, self._lines, self._bytes, most_hits, len(self._mark))
        answered = False
        with trio.move_on_after(longest_s) as deadline:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, texts)
                answered = await self._receive(reading)
                nursery.cancel_scope.cancel()  # there is nobody to send to, or nothing left to send
        if deadline.cancelled_caught:
            raise ToolError(
                f"The pattern takes longer than {longest_s:g} s for {max(size, 1):,} bytes and was stopped. A repetition"
                " inside a repetition, as in (a+)+, can take for ever: write it without, or use fixed_strings."
            )
        if not answered:
            raise await self._why_it_ended()
        self._lines, self._bytes = reading.lines, reading.bytes
        return reading.found

    async def _send(self, texts: Sequence[bytes]) -> None:
        assert self._process.stdin is not None
        try:
            for text in texts:
                await self._process.stdin.send_all(text)
                if text and not text.endswith(b"\n"):
                    await self._process.stdin.send_all(b"\n")
            await self._process.stdin.send_all(self._mark + b"\n")
        except trio.BrokenResourceError:  # it has ended; that is seen where its answer is read
            pass

    async def _receive(self, reading: _Reading) -> bool:
        assert self._process.stdout is not None
        rest = b""
        while piece := await self._process.stdout.receive_some():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if reading.take(line):
                    return True
        return False

    async def _why_it_ended(self) -> Exception:
        assert self._process.stderr is not None
        said = b""
        with trio.move_on_after(_SLOWEST_S):
            said = bytes(await self._process.stderr.receive_some(4000))
            await self._process.wait()
        lines = [
            line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()
        ]
        if self._process.returncode == 2:
            return PatternRefused(
                lines[-1].removeprefix("error: ").rstrip(".") if lines else "unknown reason"
            )
        return ToolError("The search broke off; the pattern may need too much memory.")


class _Reading:
    """The answers about some texts, sorted by text as they come in."""

    def __init__(
        self, texts: Sequence[bytes], lines: int, size: int, most_hits: int, mark_length: int
    ) -> None:
        self.found = [Found() for _ in texts]
        self._most_hits = most_hits
        self._starts: list[
            tuple[int, int]
        ] = []  # line and byte of the stream where each text begins
        for text in texts:
            self._starts.append((lines, size))
            open_end = bool(text) and not text.endswith(b"\n")
            lines += text.count(b"\n") + open_end
            size += len(text) + open_end
        self._last = lines + 1  # the mark
        self.lines = self._last
        self.bytes = size + mark_length + 1
        self._current = 0

    def take(self, line: bytes) -> bool:
        """Take one line of the answer; return whether it is the last."""
        number, column, offset, _ = line.split(b":", 3)
        absolute = int(number)
        if absolute >= self._last:
            return True
        while (
            self._current + 1 < len(self._starts) and self._starts[self._current + 1][0] < absolute
        ):
            self._current += 1
        found = self.found[self._current]
        found.count += 1
        if self._most_hits > 0:
            self._most_hits -= 1
            first_line, first_byte = self._starts[self._current]
            found.hits.append(Hit(absolute - first_line, int(column) - 1, int(offset) - first_byte))
        return False
