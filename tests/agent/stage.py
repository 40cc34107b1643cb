"""What a turn meets in these tests: a model made of deltas, a reader, a journal, some tools; and the rules it must keep."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from nanobot.agent import (
    AgentHook,
    ConsumerStalled,
    Limits,
    ModelSettings,
    RunResult,
    StreamEvent,
    Turn,
    TurnParts,
)
from nanobot.errors import ToolError
from nanobot.messages import (
    AssistantMessage,
    Delta,
    Message,
    SystemMessage,
    UserMessage,
    check,
    to_openai,
)
from nanobot.providers import ModelRequest, Provider
from nanobot.tools import Cross, RunContext, Toolset, Workspace, run_here, tool

__all__ = [
    "USER",
    "DeltaProvider",
    "Notebook",
    "Reader",
    "answers_in",
    "check_events",
    "check_legal",
    "check_story",
    "spoken",
    "stage",
    "text_of",
]

SYSTEM = SystemMessage("You are a test.")
USER = UserMessage("What is it?")
WORKSPACE = Workspace(Path(tempfile.gettempdir()))  # no tool here opens anything in it


@tool(read_only=True)
async def echo(text: str) -> str:
    """Say it back."""
    await trio.lowlevel.checkpoint()
    return text


@tool
async def change(text: str = "") -> str:
    """Change something, alone."""
    await trio.lowlevel.checkpoint()
    return f"changed {text}"


@tool(read_only=True)
async def slow(seconds: float = 10.0) -> str:
    """Take a while."""
    await trio.sleep(seconds)
    return "at last"


@tool
async def broken() -> str:
    """Never work."""
    raise ToolError("it is broken")


TOOLS = Toolset([echo, change, slow, broken])


class Reader:
    """Keeps a run's events. Takes a step for each; stalls after `stalls_after`."""

    wanted = True

    def __init__(self, *, stalls_after: int | None = None) -> None:
        self.events: list[StreamEvent] = []
        self._stalls_after = stalls_after

    async def __call__(self, event: StreamEvent) -> None:
        if self._stalls_after is not None and len(self.events) >= self._stalls_after:
            raise ConsumerStalled("the reader is more than 0 bytes behind")
        await trio.lowlevel.checkpoint()
        self.events.append(event)

    def nowait(self, event: StreamEvent) -> None:
        self.events.append(event)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def of(self, kind: str) -> list[StreamEvent]:
        return [event for event in self.events if event.type == kind]


class Notebook:
    """Keeps what is recorded. Takes a step before and after; raises `error` at call number `fails_at`, counted from 0."""

    is_ahead = False

    def __init__(self, *, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.messages: list[Message] = []
        self.calls = 0
        self._fails_at = fails_at
        self._error = error

    async def record(
        self, messages: Sequence[Message], open_turn: object = None, *, last: bool = False
    ) -> None:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if self._error is not None and self.calls - 1 == self._fails_at:
            raise self._error
        self.messages += messages


class DeltaProvider:
    """A model that says exactly these deltas, batch by batch; an exception in a batch's place is raised there.

    An exception in an answer's place is raised by `open`. The last answer is given again when all have been.
    """

    name = "deltas"

    def __init__(
        self, answers: Sequence[Sequence[Sequence[Delta] | Exception] | Exception]
    ) -> None:
        self.requests: list[ModelRequest] = []
        self.streams_open = 0
        self._answers = answers

    async def open(self, request: ModelRequest) -> _DeltaStream:
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return _DeltaStream(self, answer)

    async def aclose(self) -> None:
        return


class _DeltaStream:
    def __init__(
        self, provider: DeltaProvider, batches: Sequence[Sequence[Delta] | Exception]
    ) -> None:
        self._provider = provider
        self._batches = iter(batches)
        self._open = True
        provider.streams_open += 1

    def __aiter__(self) -> _DeltaStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        await trio.lowlevel.checkpoint()
        for batch in self._batches:
            if isinstance(batch, Exception):
                raise batch
            return batch
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._provider.streams_open -= 1
        await trio.lowlevel.checkpoint()


def stage(
    provider: Provider,
    *,
    emit: Any = None,
    journal: Any = None,
    hooks: Sequence[AgentHook] = (),
    limits: Limits | None = None,
    tools: Toolset = TOOLS,
    history: Sequence[Message] = (),
    cross: Cross = run_here,
    estimate: Callable[[Sequence[Message], Sequence[Any]], int] | None = None,
    inbox: Any = None,
    **context: Any,
) -> Turn:
    """Make a turn: the test's system message, a history, and "What is it?"."""
    more: dict[str, Any] = {}
    if emit is not None:
        more["emit"] = emit
    if inbox is not None:
        more["inbox"] = inbox
    if journal is not None:
        more["journal"] = journal
    if estimate is not None:
        more["estimate"] = estimate
    return Turn(
        TurnParts(
            provider=provider,
            settings=ModelSettings(model="test-model"),
            messages=[SYSTEM, *history, USER],
            toolset=tools,
            tool_context=RunContext(confined=WORKSPACE, **context),
            limits=limits or Limits(),
            hooks=hooks,
            cross=cross,
            **more,
        )
    )


def spoken(history: Sequence[Message]) -> list[str]:
    """Roles and texts, to compare at a glance."""
    return [f"{to_openai(message)['role']}: {message.content}" for message in history]


def text_of(events: Sequence[StreamEvent], iteration: int | None = None) -> str:
    """The text deltas, of one iteration or of all, joined."""
    return "".join(
        event.delta
        for event in events
        if event.type == "text.delta" and iteration in (None, event.iteration)
    )


def check_legal(history: Sequence[Message]) -> None:
    """What was recorded is a history that every provider accepts."""
    assert check(history) == (), history


def check_story(result: RunResult, journal: Notebook) -> None:
    """The result shows the system message and then what was recorded, word for word; no answer is there twice."""
    assert len(answers_in(journal.messages)) <= result.metadata["iterations"]
    assert result.messages[0] == to_openai(SYSTEM)
    assert result.messages[1:] == [to_openai(message) for message in journal.messages]


def check_events(events: Sequence[StreamEvent], *, finalized: bool = False) -> None:
    """The order of events that readers rely on, as an automaton. With `finalized`, hooks may have changed the last text."""
    grammar = _Grammar(finalized)
    for event in events:
        grammar.take(event)
    assert grammar.state == "over", "no terminal event"


class _Grammar:
    def __init__(self, finalized: bool) -> None:
        self.state = "before"  # → speaking ⇄ tools, → answered → over
        self._iteration = 0
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._running: dict[
            str, str
        ] = {}  # name by id, of tools that were started and have not ended
        self._seen: set[str] = set()  # ids of this iteration
        self._finalized = finalized

    def take(self, event: StreamEvent) -> None:
        assert event.iteration is not None
        kind = event.type
        assert self.state != "over", f"{kind} after the terminal event"
        if self.state == "before":
            assert (kind, event.iteration) == ("run.started", 0)
            self.state = "speaking"
            return
        assert kind != "run.started", "started twice"
        if kind == "run.failed":
            assert not self._running, "a tool has no end"
            assert event.error
            assert event.metadata["reason"] in (
                *("error", "cancelled", "timeout", "consumer_stalled", "budget"),
            )
            self.state = "over"
            return
        if kind == "run.completed":
            assert self.state == "answered"
            assert event.result is not None
            assert event.result.error is None
            assert event.result.content == event.content
            self.state = "over"
            return
        assert self.state != "answered", f"{kind} after the answer"
        if self.state == "tools" and event.iteration == self._iteration + 1:
            assert not self._running, "the next answer came before a tool's end"
            assert not kind.startswith("tool."), "a tool of an answer that was not told"
            self.state, self._iteration, self._seen = "speaking", event.iteration, set()
            self._text.clear()
        assert event.iteration == self._iteration
        if self.state == "speaking":
            self._take_speech(event)
        else:
            self._take_tool(event)

    def _take_speech(self, event: StreamEvent) -> None:
        match event.type:
            case "reasoning.delta":
                assert event.delta
                self._reasoning.append(event.delta)
            case "reasoning.completed":
                assert self._reasoning
                assert event.content == "".join(self._reasoning)
                self._reasoning.clear()
            case "text.delta":
                assert event.delta
                assert not self._reasoning, "text before reasoning.completed"
                self._text.append(event.delta)
            case "text.completed":
                assert not self._reasoning, "text.completed before reasoning.completed"
                if event.resuming or not self._finalized:
                    assert event.content == "".join(self._text)
                assert event.resuming is not None
                self.state = "tools" if event.resuming else "answered"
            case other:
                raise AssertionError(f"{other} while the model speaks")

    def _take_tool(self, event: StreamEvent) -> None:
        assert event.tool_call_id is not None
        assert event.name is not None
        assert event.arguments is not None
        if event.type == "tool.started":
            assert event.tool_call_id not in self._seen, "started twice"
            self._seen.add(event.tool_call_id)
            self._running[event.tool_call_id] = event.name
            return
        assert event.type in ("tool.completed", "tool.failed")
        assert self._running.pop(event.tool_call_id) == event.name
        assert isinstance(event.metadata["result"], str)
        assert (event.metadata["outcome"] == "ok") == (event.type == "tool.completed")
        assert (event.error is None) == (event.type == "tool.completed")


def answers_in(history: Sequence[Message]) -> list[AssistantMessage]:
    """The model's answers in a history."""
    return [message for message in history if isinstance(message, AssistantMessage)]
