"""What a tool may know about the run that called it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from ._cancel_signal import CancelSignal
from ._spawner import Spawner
from ._workspace import Workspace

__all__ = ["CallState", "RunContext"]


class CallState(Struct, eq=False):
    """How far a call has come, where its thread and the engine can both see it.

    Attributes:
      started: Whether the tool's own code was reached; False while a call waits for a thread.
      in_thread: Whether that code runs in a thread, where nothing can stop it.
      cancel: Tells the code that nobody waits for the call any more.
    """

    started: bool = True
    in_thread: bool = False
    cancel: CancelSignal = field(default_factory=CancelSignal)


_NO_CALL = CallState()  # of a run between its calls: nobody changes it


class RunContext(Struct, frozen=True, kw_only=True, eq=False):
    """What a tool may know about the run that called it.

    A parameter with this annotation is filled in by nanobot and is no part of what the model sees:

        @tool
        async def refund(context: RunContext, order: str) -> str:
            return await context.deps.shop.refund(order)

    Attributes:
      confined: The workspace as file tools see it: opens what lies inside and refuses the rest.
      deps: What the caller passed as `deps=`, untouched; never stored, never shown to the model.
      session_key: The session the run belongs to.
      channel: The run's channel label.
      chat_id: The run's chat label.
      sender_id: The run's sender label.
      tool_call_id: The id of this call.
      iteration: The answer of the model that asked for this call, counted from 0.
      spawner: Starts subagents; None where there can be none. For the tool `spawn`, in the engine.
    """

    confined: Workspace
    deps: Any = None
    session_key: str = "sdk:default"
    channel: str = "cli"
    chat_id: str = "direct"
    sender_id: str = "user"
    tool_call_id: str = ""
    iteration: int = 0
    spawner: Spawner | None = None
    _state: CallState = field(default_factory=lambda: _NO_CALL)

    def __repr__(self) -> str:  # deps hold clients and keys; they must not reach a log through us
        return f"RunContext(session_key={self.session_key!r}, tool_call_id={self.tool_call_id!r})"

    @property
    def workspace(self) -> Path:
        """The folder the run works in, absolute."""
        return self.confined.root

    @property
    def cancel(self) -> CancelSignal:
        """Tells that nobody waits for this call any more: the run was cancelled, or the tool's deadline has passed.

        Nothing can stop a thread. A sync tool that works for long looks at `context.cancel.requested` between pieces of its
        work, or sleeps with `context.cancel.wait(seconds)`, and returns.
        """
        return self._state.cancel

    @property
    def state(self) -> CallState:
        """How far this call has come; for those who run tools."""
        return self._state

    def for_call(self, tool_call_id: str, state: CallState) -> RunContext:
        """The context of one call of this run."""
        return replace(self, tool_call_id=tool_call_id, _state=state)
