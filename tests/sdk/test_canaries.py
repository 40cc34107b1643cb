"""Many sessions at once, each full of canaries of its own: none is ever seen where another one's should be.

In histories, requests, deps, hooks, context variables, spans, results, streams and models of override runs; while runs are
cancelled, typed, streamed, repeated and given to subagents, in an order that chance decides.
"""

from __future__ import annotations

import contextvars
import json
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from nanobot import Nanobot, RunContext, tool
from nanobot.agent import AgentHook, AgentHookContext, HookToolCall
from nanobot.messages import ToolMessage, to_openai
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore
from nanobot.testing import Answer, ScriptedProvider, assert_legal_history
from tests.telemetry.seen import Seen

from .bots import NOTHING, rest_of
from .conftest import Host

CANARY = re.compile(r"canary-(\d+)-\w+")
WHOSE: contextvars.ContextVar[int] = contextvars.ContextVar("whose", default=-1)
TURNS = 3


class Deps:
    """What belongs to one session."""

    def __init__(self, number: int) -> None:
        self.number = number


class Typed(msgspec.Struct):
    said: str


def owners(value: Any) -> set[int]:
    """Whose canaries are in something."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return {int(found) for found in CANARY.findall(text)}


class Watch(AgentHook):
    """A hook of one session: it must see that session and nothing else."""

    def __init__(self, number: int) -> None:
        super().__init__(reraise=True)
        self.number = number
        self.calls = 0

    def _look(self, context: AgentHookContext, *more: Any) -> None:
        self.calls += 1
        assert context.session_key.split("/")[0] == f"user:{self.number}"
        assert context.deps.number == self.number
        assert WHOSE.get() == self.number
        assert owners([context.messages, context.tool_results, context.final_content, *more]) <= {
            self.number
        }

    def wants_streaming(self) -> bool:
        return self.number % 3 == 0

    async def before_run(self, context: AgentHookContext) -> None:
        self._look(context)

    async def before_iteration(self, context: AgentHookContext) -> None:
        self._look(context)

    def on_stream(self, context: AgentHookContext, delta: str) -> None:
        self._look(context, delta)

    async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
        self._look(context, call.arguments)

    def after_execute_tool(
        self, context: AgentHookContext, call: HookToolCall, result: str, outcome: str
    ) -> None:
        self._look(context, result)

    def finalize_content(self, context: AgentHookContext, content: str) -> str:
        self._look(context, content)
        return content

    async def on_finally(self, context: AgentHookContext) -> None:
        self._look(context)


class Everybody(AgentHook):
    """A hook of the bot: it sees all sessions, each by itself."""

    def after_iteration(self, context: AgentHookContext) -> None:
        number = context.deps.number
        assert WHOSE.get() == number
        assert context.session_key.split("/")[0] == f"user:{number}"
        assert owners(context.messages) <= {number}


@tool(read_only=True)
async def look(context: RunContext, what: str) -> str:
    """Look something up, on the caller's loop."""
    assert WHOSE.get() == context.deps.number
    assert owners(what) == {context.deps.number}
    return f"canary-{context.deps.number}-result"


@tool
def note(context: RunContext, what: str) -> str:
    """Note something, in a thread."""
    assert WHOSE.get() == context.deps.number
    assert owners(what) == {context.deps.number}
    return f"canary-{context.deps.number}-note"


class Model:
    """Answers after a while that chance decides, with canaries of whoever asks; each request has to have one owner."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.asked: defaultdict[int, set[str]] = defaultdict(set)

    async def __call__(self, request: ModelRequest) -> Answer:
        shown = [to_openai(message) for message in request.messages]
        (number,) = owners(shown)
        self.asked[number].add(request.model)
        await trio.sleep(self._chance.random() * 0.01)
        canary = f"canary-{number}"
        if isinstance(request.messages[-1], ToolMessage):
            last = str(request.messages[-1].content)
            if "You are shown its result" in last:
                return Answer(f"{canary}-waiting")
            return self._end(request, canary)
        said = str(shown[-1]["content"])
        if "use tools" in said:
            calls: list[tuple[str, Any]] = [
                ("look", {"what": f"{canary}-argument"}),
                ("look", {"what": f"{canary}-another"}),
                ("note", {"what": f"{canary}-noted"}),
            ]
            return Answer(f"{canary}-first", tool_calls=calls, reasoning=f"{canary}-thought")
        if "delegate" in said and "You are a subagent" not in said:
            return Answer(tool_calls=[("spawn", {"task": f"{canary}-task"})])
        return self._end(request, canary)

    def _end(self, request: ModelRequest, canary: str) -> Answer:
        if any(spec.name == "final_answer" for spec in request.tools):
            return Answer(tool_calls=[("final_answer", {"said": f"{canary}-typed"})])
        pause_s = self._chance.choice([0.0, 0.0, 0.001])
        return Answer([f"{canary}-answer ", f"{canary}-more"], between_deltas_s=pause_s)


def make_bot(folder: Path, model: Model, seen: Seen, policy: str) -> Nanobot:
    config = {
        "agents": {"defaults": {"model": "scripted/usual", "overridePolicy": policy}},
        "providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return Nanobot.from_config(
        folder / "config.json",
        workspace=folder / "workspace",
        provider=ScriptedProvider(model, record=False),
        store=InMemoryStore(),
        tools=[look, note],
        hooks=[Everybody(reraise=True)],
        telemetry=seen.telemetry,
    )


class Storm:
    """All sessions, interleaved."""

    def __init__(self, host: Host, bot: Nanobot, sessions: int, seed: int) -> None:
        self._host = host
        self._bot = bot
        self._chance = random.Random(seed)
        self.sessions = sessions
        self.watches = [Watch(number) for number in range(sessions)]
        self.kinds: defaultdict[str, int] = defaultdict(int)

    async def run(self) -> None:
        await self._host.gather(*(self._session(number) for number in range(self.sessions)))

    def _session(self, number: int) -> Any:
        async def turns() -> None:
            WHOSE.set(number)
            await self._host.sleep(self._chance.random() * 0.05)
            for turn in range(TURNS):
                await self._turn(number, turn)

        return turns

    async def _turn(self, number: int, turn: int) -> None:
        kind = self._chance.choice(["plain", "tools", "delegate", "stream", "typed", "cancel"])
        self.kinds[kind] += 1
        ask = {"tools": "use tools", "delegate": "delegate"}.get(kind, "say something")
        options: dict[str, Any] = {
            "session_key": f"user:{number}",
            "deps": Deps(number),
            "hooks": [self.watches[number]],
        }
        if number % 4 == 0:
            options["model"] = f"scripted/override-{number}"
        message = f"canary-{number}-turn{turn}: {ask}"
        if kind == "cancel":
            await self._cancelled(message, options)
        elif kind == "stream":
            async for event in self._bot.stream(message, **options):
                assert owners([event.delta, event.content, event.metadata]) <= {number}
        elif kind == "typed":
            result = await self._bot.run(message, output_type=Typed, **options)
            assert result.output == Typed(f"canary-{number}-typed")
        else:
            plain = await self._bot.run(message, **options)
            assert plain.error is None
            assert owners(plain.content) == {number}
            assert owners(plain.messages) == {number}

    async def _cancelled(self, message: str, options: dict[str, Any]) -> None:
        run = await self._bot.run_streamed(message, **options)
        await self._host.sleep(self._chance.random() * 0.01)
        await run.cancel()
        result = await run.wait()
        assert owners([result.content, result.messages]) <= {options["deps"].number}


def spans_have_one_owner(seen: Seen) -> int:
    """Look at all spans of each trace; returns how many traces there were."""
    by_trace: defaultdict[int, list[Any]] = defaultdict(list)
    for span in seen.exporter.get_finished_spans():
        assert span.context is not None
        by_trace[span.context.trace_id].append(span)
    for spans in by_trace.values():
        keys = {
            str(span.attributes["gen_ai.conversation.id"]).split("/")[0]
            for span in spans
            if "gen_ai.conversation.id" in (span.attributes or {})
        }
        (key,) = keys
        told = [
            [dict(span.attributes or {}), [dict(e.attributes or {}) for e in span.events]]
            for span in spans
        ]
        assert owners(told) <= {int(key.removeprefix("user:"))}
    return len(by_trace)


def storm(host: Host, folder: Path, *, sessions: int, seed: int, policy: str) -> None:
    model, seen = Model(seed), Seen(capture_content=True)

    async def story() -> None:
        async with make_bot(folder, model, seen, policy) as bot:
            running = Storm(host, bot, sessions, seed)
            await running.run()
            assert await rest_of(bot) == NOTHING
            assert len(running.kinds) == 6
            for number in range(sessions):
                snapshot = bot.sessions.get(f"user:{number}")
                if snapshot is None:
                    continue  # each of its runs was cancelled before it began
                assert owners(snapshot.messages) == {number}
                assert_legal_history(snapshot.messages)
            assert sum(watch.calls for watch in running.watches) > sessions * TURNS

    host.run(story, limit_s=600)
    for number, models in model.asked.items():
        assert models == {f"override-{number}" if number % 4 == 0 else "usual"}
    # Each run is a trace of its own, for nobody had a span around it; subagents are inside of theirs.
    assert spans_have_one_owner(seen) == sessions * TURNS
    assert "canary-" in seen.texts()  # or this test looks at nothing


# Every host and every policy, if not each with each: the long test does that.
PAIRS = [("asyncio", "isolated"), ("trio", "exclusive")]


@pytest.mark.parametrize(("host_name", "policy"), PAIRS)
def test_no_canary_is_seen_where_it_does_not_belong(
    tmp_path: Path, host_name: str, policy: str
) -> None:
    storm(Host(host_name), tmp_path, sessions=15, seed=5, policy=policy)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("policy", ["isolated", "exclusive"])
@pytest.mark.parametrize("host_name", ["asyncio", "trio"])
def test_a_thousand_sessions_keep_their_canaries(
    tmp_path: Path, host_name: str, policy: str
) -> None:
    storm(Host(host_name), tmp_path, sessions=1_000, seed=8, policy=policy)
