"""What hooks are shown of a run while it happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._segment import Segment

__all__ = ["AgentHookContext", "HookToolCall", "ModelAnswer"]


@dataclass(slots=True)
class HookToolCall:
    """One tool call, as hooks see it before it is run.

    Attributes:
      id: The call's id, unique within the answer.
      name: The tool's name, as the model wrote it.
      arguments: What the tool will be run with. Change it in place or assign another dict; the tool layer checks it
        against the tool's schema afterwards. Empty if the model wrote something that is no JSON object.
      denied: Why the call must not run, if a hook said so.
      exception: What the tool (or whoever was asked to approve it) raised, with its traceback, in `after_execute_tool`;
        None if it raised nothing. The model is told one line of it.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    denied: str | None = None
    exception: BaseException | None = field(default=None, repr=False, compare=False)

    def deny(self, reason: str) -> None:
        """Keep the call from being run. The model is told the reason, so write it for the model."""
        self.denied = reason or "denied"


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One answer of the model, whole."""

    content: str
    reasoning_content: str
    tool_calls: list[HookToolCall]
    finish_reason: str
    usage: dict[str, int]


@dataclass(eq=False)
class AgentHookContext:
    """One run, as it stands now. All hooks of a run share the object, and it lives as long as the run.

    Attributes:
      session_key: Which session the run belongs to.
      deps: What the caller passed as `deps=`, untouched.
      iteration: The answer of the model that is being worked on, counted from 0.
      messages: What the model is shown, in OpenAI chat shape, the system message first. The list is live: what a hook
        changes, adds or removes before the model is asked is what the model gets, in this iteration and later ones. The
        stored history is not changed by it.
      response: This iteration's answer; None until it is there.
      usage: Token counts of this iteration; in `after_run`, `on_error` and `on_finally` those of the run.
      tool_calls: What this iteration's answer asks for.
      tool_results: The results of those calls as text, in the order of the calls; filled when all have ended.
      tool_events: One `{"name", "tool_call_id", "status", "detail"}` per call of this iteration that has ended;
        `status` is "ok" or "error".
      final_content: The run's answer, once there is one.
      output: The same as a value of the run's `output_type`, in `after_run` and `on_finally`; None without one.
      stop_reason: Why the run stopped, once it has.
      error: What went wrong, once something has.
      exception: The exception behind `error`, if one was.
    """

    session_key: str
    deps: Any = None
    iteration: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    response: ModelAnswer | None = None
    usage: dict[str, int] = field(default_factory=dict)
    tool_calls: list[HookToolCall] = field(default_factory=list)
    tool_results: list[str] = field(default_factory=list)
    tool_events: list[dict[str, Any]] = field(default_factory=list)
    final_content: str | None = None
    output: Any = None
    stop_reason: str | None = None
    error: str | None = None
    exception: BaseException | None = None
    _segment: Segment = field(default_factory=Segment, repr=False)

    @property
    def streamed_content(self) -> str:
        """The text of this iteration so far. Joined when asked for."""
        return self._segment.text

    @property
    def streamed_reasoning(self) -> str:
        """The reasoning of this iteration so far. Joined when asked for."""
        return self._segment.reasoning

    def start_iteration(self, index: int, segment: Segment) -> None:
        """Another answer begins. The lists are new: what a hook kept of the last one stays as it was."""
        self.iteration = index
        self._segment = segment
        self.response = None
        self.usage = {}
        self.tool_calls = []
        self.tool_results = []
        self.tool_events = []

    def restart_text(self, index: int, segment: Segment) -> None:
        """What the model gave by its last call is said as text now; everything else stays as it is."""
        self.iteration = index
        self._segment = segment
