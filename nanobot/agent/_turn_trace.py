"""What one turn tells while it runs."""

from __future__ import annotations

from nanobot.telemetry import Span, Telemetry

from ._hook_points import HookPoints
from ._tool_round import ToolRound

__all__ = ["TurnTrace"]


class TurnTrace:
    """The spans of a turn's iterations: one at a time, each the parent of what is done in it. One task's."""

    def __init__(self, telemetry: Telemetry, hooks: HookPoints | None) -> None:
        self._telemetry = telemetry
        self._hooks = hooks
        self._iteration: Span | None = None

    def open_iteration(self, index: int, *, closing: bool) -> None:
        """Another iteration begins; the one before has ended."""
        self.close()
        self._iteration = self._telemetry.span("iteration", iteration=index, closing=closing)
        self._iteration.__enter__()

    def ran_tools(self, round: ToolRound) -> None:
        """The calls of an answer have ended; those that did not do what they were asked are told by name."""
        if self._iteration is not None:
            for name, outcome in round.failed:
                self._iteration.happened("tool call failed", tool=name, outcome=outcome)

    def close(self, error: str | None = None) -> None:
        """The turn ends, or its next iteration begins."""
        iteration, self._iteration = self._iteration, None
        if iteration is None:
            return
        if self._hooks is not None and (stream_s := self._hooks.take_stream_s()):
            iteration.note(hooks_on_stream_s=stream_s)
        if error is not None:
            iteration.end(error)
        iteration.__exit__(None, None, None)
