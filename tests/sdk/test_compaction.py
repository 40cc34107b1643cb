"""Sessions longer than the model's window: summarized in pieces, shown as a summary and the latest turns, never cut."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from nanobot import STREAM_EVENT_RUN_COMPLETED, Nanobot, RunContext, tool
from nanobot.context import estimate_text, exact_counter, messages_tokens, tool_tokens
from nanobot.errors import (
    InvalidArgument,
    NestedRunRefused,
    ProviderError,
    RateLimited,
    UsageError,
)
from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
    check,
    to_transcript,
)
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore, Position, SessionGone
from nanobot.testing import SCRIPTED_USAGE, Answer, ProviderItem, ScriptedProvider, scripted_server
from tests.sdk.bots import make_bot

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

WINDOW, ANSWER = 4_000, 500
COUNT = exact_counter() or estimate_text
FACT = re.compile(r"The code of vault \d+ is \w+\.")
FILLER = "We talked about this and that, and nothing came of it in the end. "


def text_of(request: ModelRequest) -> str:
    return "\n".join(str(message.content) for message in request.messages)


def is_summary(request: ModelRequest) -> bool:
    return "You keep the notes" in str(request.messages[0].content)


def remember(request: ModelRequest) -> str:
    """A model that notes the facts it reads, and answers from what it is shown."""
    if is_summary(request):
        return "\n".join(FACT.findall(text_of(request))) or "Nothing of note."
    question = re.search(r"vault \d+", str(request.messages[-1].content))
    if question is None:
        return "ok"
    known = re.search(rf"The code of {question[0]} is (\w+)\.", text_of(request))
    return known[1] if known else "I do not know."


class Bench:
    """A bot whose model has a small window, and what it was asked."""

    def __init__(
        self, folder: Path, script: Any = remember, *, window: int = WINDOW, **more: Any
    ) -> None:
        config = {
            "agents": {
                "defaults": {
                    "model": "scripted/m",
                    "contextWindowTokens": window,
                    "maxTokens": ANSWER,
                }
            },
            "providers": {"scripted": {"apiBase": "http://127.0.0.1:9"}},
            "modelPresets": {
                "tiny": {"model": "scripted/tiny", "contextWindowTokens": 2_500, "maxTokens": 200}
            },
            "tools": {group: {"enable": False} for group in ("exec", "file", "web")},
        }
        (folder / "config.json").write_text(json.dumps(config))
        self.provider = ScriptedProvider(script)
        self.bot = Nanobot.from_config(
            folder / "config.json", workspace=folder / "ws", provider=self.provider, **more
        )

    @property
    def summaries(self) -> list[ModelRequest]:
        return [request for request in self.provider.requests if is_summary(request)]

    @property
    def turns(self) -> list[ModelRequest]:
        return [request for request in self.provider.requests if not is_summary(request)]

    def messages(self, key: str = "a") -> list[dict[str, Any]]:
        snapshot = self.bot.sessions.get(key)
        return [] if snapshot is None else snapshot.messages

    def compaction(self, key: str = "a") -> dict[str, Any] | None:
        snapshot = self.bot.sessions.get(key)
        return None if snapshot is None else snapshot.compaction

    def all_fit(self, window: int = WINDOW) -> bool:
        return all(
            messages_tokens(request.messages, COUNT)
            + tool_tokens(request.tools, COUNT)
            + (request.max_tokens or 0)
            <= window
            for request in self.provider.requests
        )


def transcript(turns: int, sentences: int = 12) -> list[dict[str, Any]]:
    """About 250 tokens a turn."""
    messages: list[dict[str, Any]] = []
    for number in range(turns):
        fact = f"The code of vault {number} is C{number}x. " if number % 40 == 0 else ""
        messages += [
            {"role": "user", "content": fact + FILLER * sentences, "timestamp": f"day {number}"},
            {"role": "assistant", "content": f"I see. ({number})"},
        ]
    return messages


LONG = transcript(190)  # about ten windows


# By hand


def test_a_transcript_ten_times_the_window_keeps_its_facts(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG, source="longmemeval")
            before = bench.messages()
            size = sum(len(m["content"]) for m in before) / 4
            assert size > 9 * WINDOW
            snapshot = await bot.runtime.compact_session("a")
            assert snapshot.messages == before  # the originals stay
            assert snapshot.compaction is not None
            assert 10 <= len(bench.summaries) <= 30
            result = await bot.run("What is the code of vault 0?", session_key="a")
            assert result.content == "C0x"
            (turn,) = bench.turns
            shown = text_of(turn)
            for number in (0, 40, 80, 120, 160):
                assert f"The code of vault {number} is C{number}x." in shown
            assert "(189)" in shown  # the latest turn, as it was
            assert "(0)" not in shown
            assert check(turn.messages[1:]) == ()
            assert bench.all_fit()

    host.run(story)


def test_what_is_summarized_carries_its_times_and_every_part_of_it_is_read(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            snapshot = await bot.runtime.compact_session("a")
            assert snapshot.compaction is not None
            read = "\n".join(map(text_of, bench.summaries))
            for number in range(snapshot.compaction["through"] // 2):
                assert f"[user, day {number}]" in read
                assert f"I see. ({number})" in read

    host.run(story)


def test_with_the_extra_pieces_are_filled_to_the_last_token(host: Host, tmp_path: Path) -> None:
    """English has a fifth fewer tokens than its length tells."""
    if COUNT is estimate_text:
        pytest.skip("the extra `tokens` (bpe-openai) is not installed")

    async def story() -> None:
        bench = Bench(tmp_path)
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            await bot.runtime.compact_session("a")
        first, *_ = bench.summaries
        taken = messages_tokens(first.messages, COUNT) + (first.max_tokens or 0)
        assert (
            0.87 * WINDOW < taken <= 0.96 * WINDOW
        )  # a twentieth is left, and no message is divided
        assert messages_tokens(first.messages) + (first.max_tokens or 0) > WINDOW

    host.run(story)


def test_a_session_that_fits_is_left_as_it_is(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", transcript(2))
            before = bot.sessions.get("a")
            assert await bot.runtime.compact_session("a") == before
            assert bot.sessions.get("a") == before
            assert bench.provider.request_count == 0

    host.run(story)


def test_a_session_that_is_not_there_is_not_made(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            snapshot = await bot.runtime.compact_session("nobody")
            assert (snapshot.key, snapshot.messages) == ("nobody", [])
            assert await bot.runtime.compact_idle_session("nobody") == ""
            assert bot.sessions.list() == []

    host.run(story)


def test_one_message_longer_than_the_window_is_summarized_in_pieces(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    book = FILLER * 300 + "The code of vault 7 is C7x. " + FILLER * 300

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", [{"role": "user", "content": book}])
            await bot.runtime.compact_session("a")
            assert len(bench.summaries) >= 4
            result = await bot.run("And vault 7?", session_key="a")
            assert result.content == "C7x"
            assert bench.all_fit()

    host.run(story)


FAILURES: dict[str, ProviderItem] = {
    "refused": RateLimited("slow down", provider="scripted"),
    "cut": Answer("half", finish_reason="length"),
    "empty": Answer(""),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_summary_that_fails_changes_nothing(host: Host, tmp_path: Path, failure: str) -> None:
    asked = 0

    def fail_at_last(request: ModelRequest) -> ProviderItem:
        nonlocal asked
        asked += 1
        return FAILURES[failure] if asked >= 5 else remember(request)

    bench = Bench(tmp_path, fail_at_last)

    async def story() -> None:
        nonlocal asked
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            before = bot.sessions.get("a")
            with pytest.raises(ProviderError):
                await bot.runtime.compact_session("a")
            assert bot.sessions.get("a") == before
            with pytest.raises(ProviderError):
                await bot.runtime.compact_idle_session("a")
            assert bot.sessions.get("a") == before
            asked = -1000
            assert (await bot.runtime.compact_session("a")).compaction is not None
            assert bench.provider.streams_open == 0

    host.run(story)


def test_a_second_compaction_reads_what_came_since_and_keeps_the_earlier_notes(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            first = (await bot.runtime.compact_session("a")).compaction
            assert first is not None
            read = len(bench.summaries)
            await bot.sessions.ingest("a", transcript(20))
            second = (await bot.runtime.compact_session("a")).compaction
            assert second is not None
            assert second["through"] > first["through"]
            assert second["summary"].startswith("The code of vault 0 is C0x.")
            assert len(bench.summaries) - read <= 5

    host.run(story)


def test_a_window_without_any_room_for_history_says_what_to_configure(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, window=1_500)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", transcript(2))
            with pytest.raises(UsageError, match="contextWindowTokens"):
                await bot.runtime.compact_session("a")
            assert (await bot.run("hi", session_key="a")).content == "ok"

    host.run(story)


def test_what_was_ingested_without_saving_is_compacted_and_saved_by_that(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG, save=False)
            snapshot = await bot.runtime.compact_session("a")
            assert snapshot == bot.sessions.get("a")
            assert snapshot.compaction is not None
            assert len(snapshot.messages) == len(LONG)

    host.run(story)


def test_programs_without_a_loop_compact_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.bot as bot:
        bot.sessions.ingest_sync("a", LONG)
        assert bot.runtime.compact_session_sync("a").compaction is not None
        assert "vault 0" in bot.runtime.compact_idle_session_sync("a", max_suffix=2)
        assert bot.run_sync("vault 0?", session_key="a").content == "C0x"


# Idle sessions


def test_an_idle_session_keeps_its_latest_messages_and_a_summary_of_the_rest(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", transcript(10, sentences=1))
            summary = await bot.runtime.compact_idle_session("a")
            assert summary == "The code of vault 0 is C0x."
            assert bench.compaction() == {"through": 12, "summary": summary}
            assert len(bench.messages()) == 20
            assert await bot.runtime.compact_idle_session("a") == ""
            assert len(bench.provider.requests) == 1
            await bot.run("x", session_key="a")
            assert len(bench.turns[0].messages) == 1 + 1 + 8 + 1  # prompt, summary, suffix, user

    host.run(story)


@pytest.mark.parametrize(
    ("max_suffix", "kept"), [(0, 0), (1, 1), (2, 2), (3, 2), (19, 18), (20, 20)]
)
def test_no_more_of_the_latest_messages_are_kept_than_asked_for(
    host: Host, tmp_path: Path, max_suffix: int, kept: int
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", transcript(10, sentences=1))
            summary = await bot.runtime.compact_idle_session("a", max_suffix=max_suffix)
            assert bool(summary) == (kept < 20)
            compaction = bench.compaction()
            assert (0 if compaction is None else compaction["through"]) == 20 - kept

    host.run(story)


@pytest.mark.parametrize("max_suffix", [-1, 1.5, None])
def test_a_suffix_that_is_no_number_of_messages_is_refused(
    host: Host, tmp_path: Path, max_suffix: Any
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            with pytest.raises(InvalidArgument, match="max_suffix"):
                await bot.runtime.compact_idle_session("a", max_suffix)

    host.run(story)


def test_a_suffix_never_parts_a_call_from_its_result(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    call = ToolCall("c1", "look")
    said: list[Message] = [
        UserMessage("look"),
        AssistantMessage("", (call,)),
        ToolMessage("c1", "look", "a tree"),
        AssistantMessage("A tree."),
    ]

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", [to_transcript(message) for message in said])
            await bot.runtime.compact_idle_session("a", max_suffix=2)
            assert bench.compaction() == {"through": 3, "summary": "Nothing of note."}
            assert "[result of look] a tree" in text_of(bench.summaries[0])
            await bot.run("thanks", session_key="a")
            assert check(bench.turns[0].messages[1:]) == ()

    host.run(story)


# By itself


def test_a_turn_that_would_not_fit_is_preceded_by_a_compaction_that_its_usage_counts(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            result = await bot.run("vault 0?", session_key="a")
            assert result.content == "C0x"
            requests = len(bench.provider.requests)
            assert len(bench.summaries) == requests - 1 > 10
            assert result.usage["total_tokens"] == requests * SCRIPTED_USAGE.total_tokens
            assert result.metadata["request_count"] == requests
            assert bench.all_fit()
            assert len(bench.messages()) == len(LONG) + 2
            again = await bot.run("vault 40?", session_key="a")
            assert again.content == "C40x"
            assert again.usage["total_tokens"] == SCRIPTED_USAGE.total_tokens

    host.run(story)


def test_a_stream_tells_the_same_usage(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            async for event in bot.stream("vault 0?", session_key="a"):
                if event.type == STREAM_EVENT_RUN_COMPLETED:
                    requests = len(bench.provider.requests)
                    assert event.usage["total_tokens"] == requests * SCRIPTED_USAGE.total_tokens
                    assert event.result is not None
                    assert event.result.usage == event.usage

    host.run(story)


def test_a_long_conversation_is_compacted_now_and_then_and_always_fits(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.run("The code of vault 5 is C5x. " + FILLER * 5, session_key="a")
            for number in range(60):
                await bot.run(f"{number}: {FILLER * 8}", session_key="a")
            assert (await bot.run("vault 5?", session_key="a")).content == "C5x"
            assert 2 <= len(bench.summaries) <= 15
            assert bench.all_fit()
            assert len(bench.messages()) == 2 * 62

    host.run(story)


def test_between_compactions_each_request_starts_with_all_of_the_one_before(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            for number in range(3):
                await bot.run(f"turn {number}", session_key="a")
            first, second, third = bench.turns
            assert second.messages[: len(first.messages)] == first.messages
            assert third.messages[: len(second.messages)] == second.messages
            # The system prompt is that of every session; the summary is a message, and no user's.
            assert isinstance(first.messages[0], SystemMessage)
            assert "vault" not in first.messages[0].content
            summary = first.messages[1]
            assert isinstance(summary, UserMessage)
            assert str(summary.content).startswith("[notes, from nanobot")
            # Another process, which has to read the session, shows the very same.
            again = Nanobot.from_config(
                tmp_path / "config.json",
                workspace=tmp_path / "ws",
                provider=ScriptedProvider(remember),
            )
            exported = bot.sessions.export("a")
            assert exported is not None
            assert again.sessions.restore(exported).compaction == exported.compaction

    host.run(story)


def test_if_no_summary_can_be_had_the_turn_goes_on_with_what_fits(
    host: Host, tmp_path: Path
) -> None:
    broken = True

    def no_summaries(request: ModelRequest) -> ProviderItem:
        if is_summary(request) and broken:
            return RateLimited("slow down", provider="scripted")
        return remember(request)

    bench = Bench(tmp_path, no_summaries)

    async def story() -> None:
        nonlocal broken
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            result = await bot.run("x", session_key="a")
            assert (result.content, result.error) == ("ok", None)
            assert bench.compaction() is None
            assert "(189)" in text_of(bench.turns[0])
            assert bench.all_fit()
            broken = False
            assert (await bot.run("vault 0?", session_key="a")).content == "C0x"

    host.run(story)


def test_a_model_that_cannot_summarize_is_not_asked_before_every_turn(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, lambda request: Answer("") if is_summary(request) else "ok")

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            for _ in range(5):
                assert (await bot.run("x", session_key="a")).content == "ok"
            assert len(bench.summaries) == 1

    host.run(story)


def test_an_ephemeral_run_compacts_nothing(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            before = bot.sessions.get("a")
            assert (await bot.run("x", session_key="a", ephemeral=True)).content == "ok"
            assert bot.sessions.get("a") == before
            assert bench.summaries == []
            assert bench.all_fit()

    host.run(story)


def test_a_run_on_a_smaller_model_compacts_for_that_with_that(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", transcript(6))
            assert (await bot.run("x", session_key="a")).content == "ok"
            assert bench.summaries == []
            result = await bot.run("vault 0?", session_key="a", model_preset="tiny")
            assert result.content == "C0x"
            assert {request.model for request in bench.summaries} == {"tiny"}

    host.run(story)


def test_a_service_that_counts_more_tokens_than_we_do_is_believed(
    host: Host, tmp_path: Path
) -> None:
    def count_double(request: ModelRequest) -> ProviderItem:
        if is_summary(request):
            return "Nothing of note."
        tokens = 2 * (messages_tokens(request.messages) + tool_tokens(request.tools))
        usage = type(SCRIPTED_USAGE)(tokens, 5, tokens + 5)
        return Answer("ok", usage=usage)

    bench = Bench(tmp_path, count_double, window=8_000)

    async def story() -> None:
        async with bench.bot as bot:
            for number in range(60):
                await bot.run(f"{number}: {FILLER * 8}", session_key="a")
            assert bench.summaries
            sizes = [2 * messages_tokens(request.messages) for request in bench.turns[5:]]
            assert max(sizes) + ANSWER <= 8_000

    host.run(story)


# Cancelled, raced, refused


def slow_summaries(request: ModelRequest) -> ProviderItem:
    return Answer("never", before_first_delta_s=60) if is_summary(request) else remember(request)


Work = Callable[[Nanobot], Any]
WORKS: dict[str, Work] = {
    "compact": lambda bot: bot.runtime.compact_session("a"),
    "compact idle": lambda bot: bot.runtime.compact_idle_session("a"),
    "run": lambda bot: bot.run("x", session_key="a"),
}


@pytest.mark.parametrize("work", WORKS)
def test_cancelled_while_a_summary_is_written_nothing_is_changed(
    host: Host, tmp_path: Path, work: str
) -> None:
    bench = Bench(tmp_path, slow_summaries)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            before = bot.sessions.get("a")

            async def wait() -> None:
                await WORKS[work](bot)

            assert await host.cancel_after(0.1, wait)
            assert bot.sessions.get("a") == before
            assert bench.provider.streams_open == 0
            assert (await bot.run("x", session_key="b")).content == "ok"

    host.run(story)


@pytest.mark.parametrize("work", ["compact", "compact idle"])
def test_a_session_deleted_while_its_summary_is_written_stays_deleted(
    host: Host, tmp_path: Path, work: str
) -> None:
    bench = Bench(tmp_path, slow_summaries)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)

            async def compact() -> None:
                with pytest.raises(SessionGone):
                    await WORKS[work](bot)

            async def delete() -> None:
                while bench.provider.streams_open == 0:
                    await host.sleep(0.005)
                assert bot.sessions.delete("a")

            await host.gather(compact, delete)
            assert bot.sessions.list() == []

    host.run(story)


def test_a_run_cancelled_before_its_turn_says_what_it_has_used(host: Host, tmp_path: Path) -> None:
    asked = 0

    def slow_from_the_third(request: ModelRequest) -> ProviderItem:
        nonlocal asked
        asked += 1
        return slow_summaries(request) if asked > 2 else remember(request)

    bench = Bench(tmp_path, slow_from_the_third)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            run = await bot.run_streamed("x", session_key="a")
            while asked < 3:
                await host.sleep(0.005)
            await run.cancel()
            result = await run.wait()
            assert result.stop_reason == "cancelled"
            assert result.usage["total_tokens"] >= 2 * SCRIPTED_USAGE.total_tokens
            assert bench.compaction() is None

    host.run(story)


async def test_the_time_a_compaction_takes_is_the_runs_own(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    def slow(request: ModelRequest) -> ProviderItem:
        return Answer("slowly", before_first_delta_s=60 if is_summary(request) else 1)

    bench = Bench(tmp_path, slow, store=InMemoryStore())  # no disk keeps up with this clock
    async with bench.bot as bot:
        await bot.sessions.ingest("a", LONG)
        started = trio.current_time()
        result = await bot.run("x", session_key="a", timeout_s=10)
        assert result.stop_reason == "timeout"
        assert trio.current_time() - started == pytest.approx(10, abs=0.1)
        assert bench.compaction() is None


class SlowAtFirst(InMemoryStore):
    """Its first write takes a minute."""

    waits_s = 60.0

    async def append(self, *args: Any, **kwargs: Any) -> Position:
        waits_s, self.waits_s = self.waits_s, 0.0
        await trio.sleep(waits_s)
        return await super().append(*args, **kwargs)


async def test_the_time_before_a_summary_is_asked_for_is_the_runs_own_too(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    def slow(_request: ModelRequest) -> ProviderItem:
        return Answer("slowly", before_first_delta_s=11)

    bench = Bench(tmp_path, slow, store=SlowAtFirst())
    async with bench.bot as bot:
        await bot.sessions.ingest("a", LONG, save=False)  # and so it is written before it is read
        started = trio.current_time()
        result = await bot.run("x", session_key="a", timeout_s=10)
        assert result.stop_reason == "timeout"
        # An exact counter counts in a thread, where this clock runs on: then it is the turn that waits for the store.
        assert 9.9 < trio.current_time() - started < 15.1
        assert bench.summaries == []


def test_compacting_waits_for_the_turn_before(host: Host, tmp_path: Path) -> None:
    def slow_turns(request: ModelRequest) -> ProviderItem:
        if is_summary(request):
            return remember(request)
        return Answer("slowly", before_first_delta_s=0.1)

    bench = Bench(tmp_path, slow_turns)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", transcript(10, sentences=1))
            run = await bot.run_streamed("x", session_key="a")
            assert await bot.runtime.compact_idle_session("a", max_suffix=2)
            assert run.done
            assert bench.compaction() == {"through": 20, "summary": "The code of vault 0 is C0x."}
            assert [m["content"] for m in bench.messages()[-2:]] == ["x", "slowly"]

    host.run(story)


def test_compacting_the_session_that_one_runs_in_is_refused(host: Host, tmp_path: Path) -> None:
    @tool
    async def compact(context: RunContext) -> str:
        """Compact the session that this runs in."""
        try:
            await context.deps.runtime.compact_session("a")
        except NestedRunRefused:
            return "refused"
        return "compacted"

    bench = Bench(tmp_path, [Answer(tool_calls=[("compact", {})]), "done"], tools=[compact])

    async def story() -> None:
        async with bench.bot as bot:
            result = await bot.run("go", session_key="a", deps=bot)
            assert result.content == "done"
            assert bench.messages()[2]["content"] == "refused"

    host.run(story)


def test_a_summary_that_does_not_fit_is_made_shorter_with_nothing_new_to_summarize(
    host: Host, tmp_path: Path
) -> None:
    """It was made for a larger window."""
    bench = Bench(tmp_path)
    summary = "The code of vault 1 is ONE. " + FILLER * 160

    async def story() -> None:
        async with bench.bot as bot:
            kept = {"through": 2, "summary": summary}
            bot.sessions.restore({"messages": transcript(2, 1), "compaction": kept}, "a")
            assert (await bot.runtime.compact_session("a")).compaction == {
                "through": 2,
                "summary": "The code of vault 1 is ONE.",
            }
            assert all("<notes>" in text_of(request) for request in bench.summaries)
            assert bot.memory.read_history("a") == []

    host.run(story)


def test_a_summary_too_long_beside_the_messages_that_stay_is_refused(
    host: Host, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, lambda request: FILLER * 80)  # about half of the room

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", transcript(10))
            with pytest.raises(ProviderError, match="does not get shorter"):
                await bot.runtime.compact_idle_session("a", max_suffix=8)
            assert bench.compaction() is None
            assert await bot.runtime.compact_idle_session("a", max_suffix=2)

    host.run(story)


def test_what_was_added_to_the_users_words_counts_when_a_session_is_divided(
    host: Host, tmp_path: Path
) -> None:
    """Short words, each with a turn note that is ten times as long."""
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            while not bench.summaries and bench.provider.request_count < 100:
                await bot.run("x", session_key="a")
            compaction = bench.compaction()
            assert compaction is not None
            assert compaction["through"] > len(bench.messages()) / 4

    host.run(story)


def test_a_fork_shows_the_same_summary(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            await bot.runtime.compact_session("a")
            assert bot.sessions.fork("a", "b").compaction == bench.compaction("a")
            assert (await bot.run("vault 0?", session_key="b")).content == "C0x"

    host.run(story)


def test_a_cleared_session_has_no_summary(host: Host, tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            await bot.sessions.ingest("a", LONG)
            await bot.runtime.compact_session("a")
            bot.sessions.clear("a")
            assert (await bot.run("vault 0?", session_key="a")).content == "I do not know."

    host.run(story)


@pytest.mark.parametrize("how", ["clear", "delete", "restore"])
def test_what_begins_anew_is_not_shown_notes_of_before_and_the_history_keeps_them(
    host: Host, tmp_path: Path, how: str
) -> None:
    """In no bot: one that has compacted the session itself, and one that finds everything on disk."""
    bench = Bench(tmp_path)

    async def story() -> None:
        async with bench.bot as bot:
            empty = await bot.sessions.ingest("empty", [])
            bot.memory.append_history("The code of vault 1 is TOLD.", session_key="a")
            await bot.sessions.ingest("a", LONG)
            await bot.runtime.compact_session("a")
            noted = bot.memory.read_history("a")
            assert len(noted) == 2
            if how == "restore":
                bot.sessions.restore(empty, "a")
            else:
                getattr(bot.sessions, how)("a")
            other = Bench(tmp_path).bot
            for asked in (bot, other):
                result = await asked.run("vault 0?", session_key="a", ephemeral=True)
                assert result.content == "I do not know."
                result = await asked.run("vault 1?", session_key="a", ephemeral=True)
                assert result.content == "TOLD"  # which no compaction noted
            assert bot.memory.read_history("a") == noted
            await other.aclose()

    host.run(story)


@pytest.mark.parametrize("how", ["clear", "delete", "restore"])
def test_a_history_of_the_older_version_is_shown_until_the_session_begins_anew(
    host: Host, tmp_path: Path, how: str
) -> None:
    """It does not tell the notes of compactions from others."""
    bench = Bench(tmp_path)
    line = {"cursor": 1, "timestamp": "2025-01-01 10:00", "content": "The code of vault 3 is OLD."}
    (tmp_path / "ws" / "memory").mkdir()
    (tmp_path / "ws" / "memory" / "history.jsonl").write_text(
        json.dumps({**line, "session_key": "a"}) + "\n"
    )

    async def story() -> None:
        async with bench.bot as bot:
            empty = await bot.sessions.ingest("empty", [])
            assert (await bot.run("vault 3?", session_key="a")).content == "OLD"
            if how == "restore":
                bot.sessions.restore(empty, "a")
            else:
                getattr(bot.sessions, how)("a")
            assert (await bot.run("vault 3?", session_key="a")).content == "I do not know."
            assert len(bot.memory.read_history("a")) == 2

    host.run(story)


def test_a_session_is_cleared_also_where_that_cannot_be_marked_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = tmp_path / "ws" / "memory"
    (memory / ".history.lock").mkdir(parents=True)
    line = {"cursor": 1, "timestamp": "", "content": "old", "session_key": "a"}
    (memory / "history.jsonl").write_text(json.dumps(line))
    with Nanobot.from_config(provider=ScriptedProvider(["ok"]), workspace=tmp_path / "ws") as bot:
        bot.run_sync("x", session_key="a")
        cleared = bot.sessions.clear("a")
    assert cleared is not None
    assert cleared.messages == []
    assert "history.jsonl cannot be written" in caplog.text


async def test_what_a_report_teaches_is_about_what_the_model_was_shown_not_about_its_answer(
    tmp_path: Path,
) -> None:
    ratios = []
    for folder, words in (("a", 1), ("b", 3_000)):
        with scripted_server(
            [Answer("word " * words, usage=Usage(1_000, words, 1_000 + words))]
        ) as server:
            async with make_bot(tmp_path / folder, server.base_url) as bot:
                await bot.run("Tell me a story.", session_key="user:1")
                runtime = bot._engine.runtime
                assert runtime is not None
                ratios.append(bot._blueprint.turn_maker(runtime)._calibrations["m"].ratio)
    assert ratios[0] == ratios[1]
