"""The ways in which a real service fails to finish an answer that it has begun, or never begins one."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

from msgspec import Struct

from nanobot.errors import UsageError

__all__ = [
    "Cut",
    "CutBy",
    "CutPoint",
    "Fault",
    "HugeLine",
    "MalformedEvent",
    "Raise",
    "SlowDrip",
    "Stall",
    "check_seconds",
]

CutPoint: TypeAlias = Literal["between_events", "mid_event", "mid_line", "mid_token"]
CutBy: TypeAlias = Literal["close", "reset", "end_of_body"]


class Stall(Struct, frozen=True):
    """Goes silent and keeps the connection open until the client gives up.

    `after_deltas` counts increments of reasoning, text and tool calls; if the answer has fewer, the fault strikes after
    the last one. None stalls before the status line: the request is read and nothing ever comes back.
    """

    after_deltas: int | None = None

    def __post_init__(self) -> None:
        _check_after_deltas(self, self.after_deltas)


class Cut(Struct, frozen=True):
    """Ends the answer too early.

    `after_deltas` is as in `Stall`; None cuts before the status line. `at` says how much of the next event is still
    sent: "between_events" nothing, "mid_event" its line but not the blank line after it, "mid_line" half of its line,
    "mid_token" up to the middle of its text, inside a multi-byte character if it has one.

    `by` says how the client learns: "close" (FIN), "reset" (RST), or "end_of_body", where HTTP ends the body properly,
    the connection stays usable and only the missing end of the answer tells.
    """

    after_deltas: int | None = 1
    at: CutPoint = "between_events"
    by: CutBy = "close"

    def __post_init__(self) -> None:
        _check_after_deltas(self, self.after_deltas)
        _check_choice("Cut.at", self.at, get_args(CutPoint))
        _check_choice("Cut.by", self.by, get_args(CutBy))
        if self.after_deltas is None and self.by == "end_of_body":
            raise UsageError(
                "Cut(None, by='end_of_body') has no body that could end; use by='close' or by='reset'"
            )


class MalformedEvent(Struct, frozen=True):
    """Puts bytes between two events that no service should send; the answer then goes on.

    The default is an event whose JSON breaks off. `data` is sent as it is: it brings its own `data: ` and blank line.
    An error object in mid-stream, or a comment line (`": keep-alive\\n\\n"`), is scripted the same way.
    """

    data: str | bytes = 'data: {"choices":[{"delta":{"con\n\n'
    after_deltas: int = 1

    def __post_init__(self) -> None:
        _check_after_deltas(self, self.after_deltas)


class HugeLine(Struct, frozen=True):
    """Puts one more text event between two others, whose line is `size` bytes long (of valid JSON)."""

    size: int = 10_000_000
    after_deltas: int = 1

    def __post_init__(self) -> None:
        _check_after_deltas(self, self.after_deltas)
        if self.size < 1_000:
            raise UsageError(
                f"HugeLine.size is {self.size}; an empty event has some hundred bytes, so use >= 1000"
            )


class SlowDrip(Struct, frozen=True):
    """Sends the body in writes of `write_size` bytes, `every_s` seconds apart: busy on the wire, no use to a reader."""

    write_size: int = 1
    every_s: float = 0.01

    def __post_init__(self) -> None:
        if self.write_size < 1:
            raise UsageError(
                f"SlowDrip.write_size is {self.write_size}; it must be at least 1 byte"
            )
        check_seconds("SlowDrip.every_s", self.every_s)
        if not self.every_s:
            raise UsageError(
                "SlowDrip.every_s is 0, which is no drip; use a small number such as 0.001"
            )


class Raise(Struct, frozen=True):
    """Raises an exception in mid-stream. Only for `ScriptedProvider`: a server cannot raise in its client."""

    error: Exception
    after_deltas: int = 1

    def __post_init__(self) -> None:
        _check_after_deltas(self, self.after_deltas)
        if not isinstance(self.error, Exception):
            raise UsageError(f"Raise needs an exception instance, got {self.error!r}")


Fault: TypeAlias = Stall | Cut | MalformedEvent | HugeLine | SlowDrip | Raise


def check_seconds(name: str, seconds: float) -> None:
    """Refuse a duration that no clock could wait for."""
    if not 0 <= seconds < math.inf:
        raise UsageError(f"{name} is {seconds!r}; it must be a finite number of seconds, >= 0")


def _check_after_deltas(fault: Struct, after_deltas: int | None) -> None:
    if after_deltas is not None and after_deltas < 0:
        raise UsageError(f"{type(fault).__name__}.after_deltas is {after_deltas}; it must be >= 0")


def _check_choice(name: str, value: str, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")
