"""From a run's events to the frames that clients get; one translator for each turn. No clock here."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from nanobot.agent import StreamEvent

from ._server_frames import (
    ChatFrame,
    Delta,
    Message,
    ReasoningDelta,
    ReasoningEnd,
    StreamEnd,
    Tool,
    TurnEnd,
    TurnError,
    TurnStart,
)

__all__ = ["TurnTranslator"]


class TurnTranslator:
    """Follows one turn. It has ended when `ended` is true; otherwise `end` makes the missing last frames.

    Attributes:
      started: Whether the run has begun, so that its user's message is stored or about to be.
    """

    __slots__ = (
        "_called_at",
        "_chat_id",
        "_iteration",
        "_last_text",
        "_started_at",
        "_stream_id",
        "_turn_id",
        "ended",
        "started",
    )

    def __init__(self, chat_id: str, turn_id: str, now: float) -> None:
        self._chat_id = chat_id
        self._turn_id = turn_id
        self._started_at = now
        self._called_at: dict[tuple[int | None, str | None], float] = {}
        self._last_text = ""
        self._iteration: int | None = None
        self._stream_id = f"{turn_id}.0"
        self.started = False
        self.ended = False

    def frames(self, event: StreamEvent, now: float) -> list[ChatFrame]:
        """What to tell of an event; `now` is in seconds on any clock that only goes forward."""
        chat_id, turn_id = self._chat_id, self._turn_id
        if event.iteration != self._iteration:
            self._iteration = event.iteration
            self._stream_id = f"{turn_id}.{event.iteration or 0}"
        stream_id = self._stream_id
        match event.type:
            case "text.delta":  # the most frequent one first
                return [Delta(chat_id, turn_id, stream_id=stream_id, text=event.delta)]
            case "run.started":
                self.started = True
                return [TurnStart(chat_id, turn_id, model=str(event.metadata.get("model", "")))]
            case "text.completed":
                self._last_text = event.content
                return [
                    StreamEnd(chat_id, turn_id, stream_id=stream_id, resuming=bool(event.resuming))
                ]
            case "reasoning.delta":
                return [
                    ReasoningDelta(chat_id, turn_id, stream_id=f"{stream_id}r", text=event.delta)
                ]
            case "reasoning.completed":
                return [ReasoningEnd(chat_id, turn_id, stream_id=f"{stream_id}r")]
            case "tool.started" | "tool.completed" | "tool.failed":
                return [self._tool(event, now)]
            case "run.completed":
                replaced = event.content != self._last_text
                message = [Message(chat_id, turn_id, text=event.content)] if replaced else []
                result = event.result
                reason = (result.stop_reason if result is not None else None) or "completed"
                approval = event.metadata.get("approval")
                return [*message, self._end(reason, event.usage, now, approval)]
            case "run.failed":
                reason = str(event.metadata.get("reason", "error"))
                return self.end(reason, event.error or "The turn failed.", now, event.usage)

    def end(
        self, reason: str, detail: str, now: float, usage: dict[str, int] | None = None
    ) -> list[ChatFrame]:
        """The last frames of a turn that did not complete; none if it has ended. Being cancelled is no error."""
        if self.ended:
            return []
        failed = reason != "cancelled"
        error = TurnError(self._chat_id, self._turn_id, detail=detail, reason=reason)
        return [*([error] if failed else []), self._end(reason, usage or {}, now)]

    def _end(
        self,
        reason: str,
        usage: dict[str, int],
        now: float,
        approval: dict[str, Any] | None = None,
    ) -> ChatFrame:
        self.ended = True
        latency_ms = round((now - self._started_at) * 1000)
        return TurnEnd(
            self._chat_id,
            self._turn_id,
            stop_reason=reason,
            latency_ms=latency_ms,
            usage=dict(usage),
            approval=approval,
        )

    def _tool(self, event: StreamEvent, now: float) -> ChatFrame:
        call = (event.iteration, event.tool_call_id)
        elapsed_ms = None
        if event.type == "tool.started":
            self._called_at[call] = now
        elif call in self._called_at:
            elapsed_ms = round((now - self._called_at.pop(call)) * 1000)
        result = event.metadata.get("result")
        outcome = event.metadata.get("outcome")
        return Tool(
            self._chat_id,
            self._turn_id,
            phase=_PHASES[event.type],
            call_id=f"{event.iteration or 0}.{event.tool_call_id or ''}",
            name=event.name or "",
            arguments=event.arguments or {},
            result=result if isinstance(result, str) else None,
            error=event.error,
            outcome=outcome if isinstance(outcome, str) else None,
            elapsed_ms=elapsed_ms,
        )


_Phase: TypeAlias = Literal["started", "completed", "failed"]
_PHASES: Final[dict[str, _Phase]] = {
    "tool.started": "started",
    "tool.completed": "completed",
    "tool.failed": "failed",
}
