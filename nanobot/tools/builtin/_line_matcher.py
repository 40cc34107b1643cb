"""Tells which lines of its standard input match: a program of its own, for Python's `re` can run for ever.

Nothing stops `re` in a thread; a process can be killed, and ends by itself when it has used up its limits, even if
nobody is left to kill it. RE2, if it is installed, needs time in proportion to the line, and is asked where `re` may
need more and both mean the same. Imports nothing else but the standard library. Started as

    python -I _line_matcher.py MARK FLAGS PATTERN

where FLAGS are letters: `i` to ignore case, `f` for fixed text. It answers in the form of `rg --line-number --column
--byte-offset`: for each line that matches, its number from 1, the byte in it where the match begins, from 1, and the
byte where the line begins, from 0. A line that equals MARK is answered at once, together with all before it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TypeAlias

try:
    import re2
    from re2 import Options  # another package of that name has none
except ImportError:
    re2 = None

Find: TypeAlias = Callable[[bytes], int | None]
"""The byte of a line where the first match begins."""

_CPU_S = 120
_MEMORY = 2 * 1024 * 1024 * 1024

_BACKTRACKS = re.compile(r"[*+?{|]")
"""Without these there is nothing to try again, and `re` takes a sixth of RE2's 2 µs a line."""

_KNOWS_ASCII = re.compile(r"\\[bBdDsSwW]")
"""What is a letter, a digit or a blank: RE2 only asks that of ASCII, `re` and ripgrep of all characters."""

_MEANS_ANOTHER = re.compile(r"\{,")
"""`a{,3}` is at most three times a letter; to RE2 it is those five characters."""


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
    linear = None if "f" in flags else _find_with_re2(flags, pattern)
    try:
        backtracking = _find_with_re(flags, pattern)
    except (re.error, RecursionError, OverflowError):
        if linear is None:
            raise
        return linear  # such as \pL, which ripgrep knows too
    if linear is None or not _BACKTRACKS.search(pattern):
        return backtracking
    if not _KNOWS_ASCII.search(pattern):
        return linear
    return lambda line: linear(line) if line.isascii() else backtracking(line)


def _find_with_re(flags: str, pattern: str) -> Find:
    search = re.compile(
        re.escape(pattern) if "f" in flags else pattern, re.IGNORECASE if "i" in flags else 0
    ).search

    def find(line: bytes) -> int | None:
        text = line.decode("utf-8", "surrogateescape")
        found = search(text)
        if found is None:
            return None
        return len(text[: found.start()].encode("utf-8", "surrogateescape"))

    return find


def _find_with_re2(flags: str, pattern: str) -> Find | None:
    """None if RE2 is not there, or does not take the pattern: one that looks ahead, say."""
    if re2 is None or _MEANS_ANOTHER.search(pattern):
        return None
    options = Options()
    options.case_sensitive = "i" not in flags
    options.log_errors = False
    try:
        search = re2.compile(pattern.encode(), options).search
    except re2.error:
        return None

    def find(line: bytes) -> int | None:
        found = search(line)
        return None if found is None else found.start()

    return find


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
