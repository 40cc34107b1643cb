"""Tells which lines of its standard input match: a program of its own, for Python's `re` can run for ever.

Nothing stops `re` in a thread; a process can be killed, and ends by itself when it has used up its limits, even if
nobody is left to kill it. Imports the standard library only, for it runs without any other. Started as

    python -I -S _line_matcher.py MARK FLAGS PATTERN

where FLAGS are letters: `i` to ignore case, `f` for fixed text. It answers in the form of `rg --line-number --column
--byte-offset`: for each line that matches, its number from 1, the byte in it where the match begins, from 1, and the
byte where the line begins, from 0. A line that equals MARK is answered at once, together with all before it.
"""

import re
import sys

_CPU_S = 120
_MEMORY = 2 * 1024 * 1024 * 1024


def main(mark: str, flags: str, pattern: str) -> int:
    """Answer until the input ends. 2 if the pattern is none, with the reason on standard error."""
    _limit()
    try:
        expression = re.compile(
            re.escape(pattern) if "f" in flags else pattern,
            re.IGNORECASE if "i" in flags else 0,
        )
    except (re.error, RecursionError, OverflowError) as error:
        print(error, file=sys.stderr)
        return 2
    search, answer, flush = expression.search, sys.stdout.write, sys.stdout.flush
    offset = 0
    for number, raw in enumerate(sys.stdin.buffer, 1):
        line = raw.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if line == mark:
            answer(f"{number}:1:{offset}:\n")
            flush()
        elif found := search(line):
            column = len(line[: found.start()].encode("utf-8", "surrogateescape")) + 1
            answer(f"{number}:{column}:{offset}:\n")
        offset += len(raw)
    return 0


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
        sys.exit(main(*sys.argv[1:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)
