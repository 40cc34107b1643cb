"""Tells which lines of its standard input match: a program of its own, for Python's `re` can run for ever.

Nothing stops `re` in a thread; a process can be killed, and ends by itself when it has used up its limits, even if
nobody is left to kill it. `re` is asked where it has nothing to try again, or where only it knows the pattern, such as
one that looks ahead; for all others there is `_linear_regex`. Imports only the standard library and that file. Started as

    python -I _line_matcher.py MARK FLAGS PATTERN

where FLAGS are letters: `i` to ignore case, `f` for fixed text. It answers in the form of `rg --line-number --column
--byte-offset`: for each line that matches, its number from 1, the byte in it where the match begins, from 1, and the
byte where the line begins, from 0. A line that equals MARK is answered at once, together with all before it.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING or __package__:
    from ._linear_regex import LinearRegex, NotRegular
else:  # a program, and -I keeps its folder out of the search path
    _beside = Path(__file__).with_name("_linear_regex.py")
    _spec = importlib.util.spec_from_file_location("_linear_regex", _beside)
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
    LinearRegex, NotRegular = _module.LinearRegex, _module.NotRegular

Find: TypeAlias = Callable[[bytes], int | None]
"""The byte of a line where the first match begins."""

Start: TypeAlias = Callable[[str], int | None]
"""The character of a line where the first match begins."""

_CPU_S = 120
_MEMORY = 2 * 1024 * 1024 * 1024

_BACKTRACKS = re.compile(r"[*+?{|]")
"""Without these there is nothing to try again, and `re` takes 0.1 µs a line where the other takes 1.7."""

_SHORT = 200
"""Characters of a pattern. `re` compares all of a longer one at each place of a line that almost matches."""


def main(mark: bytes, flags: str, pattern: str) -> int:
    """Answer until the input ends. 2 if the pattern is none, with the reason on standard error."""
    _limit()
    try:
        find = _find(flags, pattern)
    except (re.error, RecursionError, OverflowError) as error:
        print(error, file=sys.stderr)
        return 2
    answer, flush = sys.stdout.write, sys.stdout.flush
    offset = 0
    for number, raw in enumerate(sys.stdin.buffer, 1):
        line = raw.rstrip(b"\r\n")
        if line == mark:
            answer(f"{number}:1:{offset}:\n")
            flush()
        elif (start := find(line)) is not None:
            answer(f"{number}:{start + 1}:{offset}:\n")
        offset += len(raw)
    return 0


def _find(flags: str, pattern: str) -> Find:
    start = _start(flags, pattern)

    def find(line: bytes) -> int | None:
        text = line.decode("utf-8", "surrogateescape")
        found = start(text)
        if found is None:
            return None
        return len(text[:found].encode("utf-8", "surrogateescape"))

    return find


def _start(flags: str, pattern: str) -> Start:
    options = re.IGNORECASE if "i" in flags else re.NOFLAG
    quick = len(pattern) <= _SHORT and ("f" in flags or not _BACKTRACKS.search(pattern))
    if "f" in flags:
        pattern = re.escape(pattern)
    search = re.compile(pattern, options).search
    if not quick:
        try:
            return LinearRegex(pattern, options).start
        except NotRegular:
            pass  # `re` may take for ever; whoever started this process kills it then

    def start(text: str) -> int | None:
        found = search(text)
        return None if found is None else found.start()

    return start


def _limit() -> None:
    try:
        import resource  # deferred: there is none on Windows
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_CPU, _CPU_S), (resource.RLIMIT_AS, _MEMORY)):
        try:
            _, highest = resource.getrlimit(kind)
            resource.setrlimit(kind, (most, highest))
        except (ValueError, OSError):  # it is lower already
            pass


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1].encode(), *sys.argv[2:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)
