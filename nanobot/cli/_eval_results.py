"""Results of an evaluation: a line each, appended as they come, so that a run that was killed can go on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from nanobot._regular_file import is_new_file

from ._failure import Failure

__all__ = ["Result", "ResultFile", "Summary", "summary_of"]


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one case.

    Attributes:
      id: The case's.
      ok: Whether the answer was right; None if there was none to judge.
      answer: What the model said.
      error: Why there is no verdict; "" if there is one.
      latency_ms: From the question to the end of the answer.
      ttft_ms: From the question to the first delta, if there was one.
      usage: Token counts of the question's run.
      model: Who answered.
      match: How the answer was judged.
    """

    id: str
    ok: bool | None
    answer: str = ""
    error: str = ""
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    usage: dict[str, int] = {}
    model: str = ""
    match: str = ""


_DECODER: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)


class ResultFile:
    """The file of results. Each line is on the disk before the next case counts as done.

    Opening it reads what an earlier run left: cases with a verdict are done, those that failed are tried again, and half a
    line at the end, from a run that was killed, is cut off.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        """Open the file. `fresh` forgets what is in it.

        Raises:
          Failure: It cannot be written, or is no file of results.
        """
        self.path = path
        self.results: dict[str, Result] = {}
        try:
            # Not a pipe or a device: what was written is read and cut, when a run goes on.
            self._file = path.open("w+b" if is_new_file(path) or fresh else "r+b")
        except OSError as error:
            raise Failure(
                f"{path} cannot be written: {error.strerror}.",
                "Name another file with --output.",
            ) from error
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def done(self, name: str) -> bool:
        """Whether a case has its verdict already."""
        result = self.results.get(name)
        return result is not None and result.ok is not None

    def add(self, result: Result) -> None:
        """Append a result; blocks until the disk has it."""
        self._file.write(msgspec.json.encode(result) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.results[result.id] = result

    def _read(self) -> None:
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                result = _DECODER.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                self._file.close()
                raise Failure(
                    f"{self.path}, line {number}, is no result of an evaluation.",
                    "Name another file with --output, or begin anew with --fresh.",
                ) from error
            self.results[result.id] = result
            end += len(line)
        self._file.seek(end)
        self._file.truncate()


class Summary(Struct, frozen=True, kw_only=True):
    """The figures of a whole evaluation; latencies in milliseconds, of the cases that have a verdict."""

    cases: int
    right: int
    wrong: int
    failed: int
    score: float
    latency_median_ms: float
    latency_p95_ms: float
    tokens: int


def summary_of(results: Sequence[Result]) -> Summary:
    """Count. The score is right / (right + wrong), 0 without any verdict."""
    judged = [result for result in results if result.ok is not None]
    right = sum(1 for result in judged if result.ok)
    latencies = [result.latency_ms for result in judged]
    return Summary(
        cases=len(results),
        right=right,
        wrong=len(judged) - right,
        failed=len(results) - len(judged),
        score=right / len(judged) if judged else 0.0,
        latency_median_ms=median(latencies) if latencies else 0.0,
        latency_p95_ms=quantiles(latencies, n=20)[18] if len(latencies) > 1 else sum(latencies),
        tokens=sum(result.usage.get("total_tokens", 0) for result in results),
    )
