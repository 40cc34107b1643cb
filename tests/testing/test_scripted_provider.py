"""A model in this process: it does what the script says, and nothing else."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import MockClock

from nanobot.errors import (
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    RateLimited,
    UsageError,
)
from nanobot.messages import (
    AssistantMessage,
    Delta,
    FilePart,
    Finished,
    Message,
    TextDelta,
    TextPart,
    ToolCallDelta,
    UsageDelta,
    UserMessage,
)
from nanobot.providers import ModelRequest, Provider
from nanobot.testing import (
    SCRIPTED_USAGE,
    Answer,
    Cut,
    HugeLine,
    MalformedEvent,
    Raise,
    ScriptedProvider,
    ScriptExhausted,
    SlowDrip,
    Stall,
    by_session,
)
from nanobot.testing._fault import Fault

HELLO = ModelRequest("some-model", [UserMessage("Hello")])


async def answer_of(provider: Provider, request: ModelRequest = HELLO) -> list[Delta]:
    stream = await provider.open(request)
    return [delta async for batch in stream for delta in batch]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def test_a_text_is_a_whole_answer_in_one_batch() -> None:
    stream = await ScriptedProvider(["Hello there"]).open(HELLO)
    batches = [batch async for batch in stream]
    assert batches == [
        (TextDelta("Hello "), TextDelta("there"), UsageDelta(SCRIPTED_USAGE), Finished("stop"))
    ]


async def test_answers_are_given_in_order_and_requests_are_remembered() -> None:
    provider = ScriptedProvider(["one", Answer(tool_calls=[("f", {})]), "three"], name="fake")
    assert text_of(await answer_of(provider)) == "one"
    second = await answer_of(provider)
    assert second == [
        ToolCallDelta(0, id="call_00000002_0", name="f"),
        ToolCallDelta(0, arguments="{}"),
        UsageDelta(SCRIPTED_USAGE),
        Finished("tool_calls"),
    ]
    assert text_of(await answer_of(provider)) == "three"
    assert provider.name == "fake"
    assert [request.model for request in provider.requests] == ["some-model"] * 3
    assert provider.request_count == 3


async def test_a_request_is_remembered_as_it_was_when_it_was_sent() -> None:
    provider = ScriptedProvider(["one"])
    messages: list[Message] = [UserMessage("Hello")]
    await answer_of(provider, ModelRequest("m", messages))
    messages.append(AssistantMessage("one"))
    assert list(provider.requests[0].messages) == [UserMessage("Hello")]


async def test_without_recording_requests_are_only_counted() -> None:
    provider = ScriptedProvider(itertools.repeat("ok"), record=False)
    for _ in range(3):
        await answer_of(provider)
    assert provider.requests == []
    assert provider.request_count == 3


async def test_the_last_answer_is_followed_by_a_failed_assertion() -> None:
    provider = ScriptedProvider(["only"], name="fake")
    await answer_of(provider)
    with pytest.raises(ScriptExhausted, match="ScriptedProvider 'fake' has 1 answers"):
        await provider.open(HELLO)
    assert provider.streams_open == 0


async def test_an_exception_in_the_script_is_raised_instead_of_an_answer() -> None:
    refusal = RateLimited("slow down", provider="scripted", retry_after_s=30.0)
    provider = ScriptedProvider([refusal, "hello"])
    with pytest.raises(RateLimited) as caught:
        await provider.open(HELLO)
    assert caught.value is refusal
    assert text_of(await answer_of(provider)) == "hello"


async def test_a_function_is_asked_for_each_answer() -> None:
    def script(request: ModelRequest) -> str:
        return f"you asked {request.model}"

    assert text_of(await answer_of(ScriptedProvider(script))) == "you asked some-model"


async def test_an_async_function_may_take_its_time(autojump_clock: MockClock) -> None:
    async def script(request: ModelRequest) -> str:
        await trio.sleep(60)
        return "at last"

    started = trio.current_time()
    assert text_of(await answer_of(ScriptedProvider(script))) == "at last"
    assert trio.current_time() - started == 60


async def test_sessions_get_their_own_answers() -> None:
    provider = ScriptedProvider(by_session({"Alice": ["A"], "Bob": ["B"]}))
    bob = UserMessage((TextPart("I am Bob"), FilePart("notes.txt")))
    alice = UserMessage("I am Alice")
    assert text_of(await answer_of(provider, ModelRequest("m", [bob]))) == "B"
    assert text_of(await answer_of(provider, ModelRequest("m", [alice]))) == "A"


async def test_pauses_last_exactly_as_long_as_the_script_says(autojump_clock: MockClock) -> None:
    provider = ScriptedProvider(
        [Answer("a b c", before_head_s=1, before_first_delta_s=10, between_deltas_s=100)]
    )
    started = trio.current_time()
    arrived = []
    stream = await provider.open(HELLO)
    arrived.append(trio.current_time() - started)
    async for batch in stream:
        assert len([delta for delta in batch if isinstance(delta, TextDelta)]) == 1
        arrived.append(trio.current_time() - started)
    assert arrived == [1, 11, 111, 211]


async def test_usage_and_finish_come_with_the_last_increment(autojump_clock: MockClock) -> None:
    stream = await ScriptedProvider([Answer("a b", between_deltas_s=1)]).open(HELLO)
    batches = [tuple(batch) async for batch in stream]
    assert batches == [
        (TextDelta("a "),),
        (TextDelta("b"), UsageDelta(SCRIPTED_USAGE), Finished("stop")),
    ]


async def test_an_empty_answer_still_finishes() -> None:
    assert await answer_of(ScriptedProvider([Answer(usage=None)])) == [Finished("stop")]
    paced = Answer(usage=None, before_first_delta_s=0.001)
    assert await answer_of(ScriptedProvider([paced])) == [Finished("stop")]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Cut(after_deltas=1), ConnectionFailed),
        (MalformedEvent(), MalformedStream),
        (MalformedEvent(b"\xff"), MalformedStream),
        (HugeLine(), MalformedStream),
        (Raise(ProviderError("mine", provider="scripted")), ProviderError),
    ],
)
async def test_a_fault_strikes_in_mid_stream(fault: Fault, error: type[ProviderError]) -> None:
    provider = ScriptedProvider([Answer("one two three", fault=fault)])
    stream = await provider.open(HELLO)
    got = [*await anext(stream)]
    assert got == [TextDelta("one ")]
    assert provider.streams_open == 1
    with pytest.raises(error):
        await anext(stream)
    assert provider.streams_open == 0
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_fault_later_than_the_answer_strikes_at_its_end() -> None:
    stream = await ScriptedProvider([Answer("one two", fault=Cut(after_deltas=99))]).open(HELLO)
    assert [*await anext(stream)] == [TextDelta("one "), TextDelta("two")]
    with pytest.raises(ConnectionFailed):
        await anext(stream)


async def test_a_cut_before_the_head_fails_the_opening() -> None:
    provider = ScriptedProvider([Answer("x", fault=Cut(after_deltas=None))])
    with pytest.raises(ConnectionFailed):
        await provider.open(HELLO)
    assert provider.streams_open == 0


@pytest.mark.parametrize("after", [None, 0, 1])
async def test_a_stalled_answer_waits_to_be_cancelled(
    after: int | None, autojump_clock: MockClock
) -> None:
    provider = ScriptedProvider([Answer("one two", fault=Stall(after))])
    with trio.move_on_after(3600) as patience:
        stream = await provider.open(HELLO)
        async for _ in stream:
            pass
    assert patience.cancelled_caught
    if after is not None:
        assert provider.streams_open == 1
        await stream.aclose()
    assert provider.streams_open == 0


async def test_a_cancelled_read_has_lost_nothing() -> None:
    stream = await ScriptedProvider(["all of it"]).open(HELLO)
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(stream)
    assert scope.cancelled_caught
    assert text_of([*await anext(stream)]) == "all of it"


async def test_closing_a_stream_early_or_twice_gives_it_back_once() -> None:
    provider = ScriptedProvider(["one", "two"])
    first, second = await provider.open(HELLO), await provider.open(HELLO)
    assert (provider.streams_open, provider.peak_streams_open) == (2, 2)
    await first.aclose()
    await first.aclose()
    assert [batch async for batch in first] == []
    assert provider.streams_open == 1
    assert [batch async for batch in second]
    await second.aclose()
    assert (provider.streams_open, provider.peak_streams_open) == (0, 2)


async def test_closing_also_when_cancelled_gives_the_stream_back() -> None:
    provider = ScriptedProvider(["one"])
    stream = await provider.open(HELLO)
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()
    assert provider.streams_open == 0


async def test_a_closed_provider_refuses_further_requests() -> None:
    provider = ScriptedProvider(["one"])
    await provider.aclose()
    await provider.aclose()
    assert provider.closed
    with pytest.raises(UsageError, match="after aclose"):
        await provider.open(HELLO)


async def test_the_same_answer_may_be_used_often_and_by_many_at_once() -> None:
    hello = Answer("Hello again")
    provider = ScriptedProvider(itertools.repeat(hello))
    texts: list[str] = []

    async def ask() -> None:
        texts.append(text_of(await answer_of(provider)))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)
    assert texts == ["Hello again"] * 100
    assert provider.streams_open == 0


async def test_many_different_answers_do_not_pile_up_in_the_provider() -> None:
    provider = ScriptedProvider((f"answer {n}" for n in itertools.count()), record=False)
    for n in range(600):
        assert text_of(await answer_of(provider)) == f"answer {n}"
    assert len(provider._ready) <= 256


def test_what_needs_a_wire_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="SlowDrip needs a wire"):
        ScriptedProvider([Answer("x", fault=SlowDrip())])
    with pytest.raises(UsageError, match="scripted_server"):
        ScriptedProvider([404])  # type: ignore[list-item]


async def test_a_function_with_a_wrong_answer_is_told_what_is_right() -> None:
    provider = ScriptedProvider(lambda request: 404)  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match="a str, an Answer or an exception"):
        await provider.open(HELLO)


async def test_its_repr_tells_how_it_is() -> None:
    provider = ScriptedProvider(["x"])
    await provider.open(HELLO)
    assert repr(provider) == "<ScriptedProvider 'scripted': 1 requests, 1 streams open>"


def as_provider(provider: ScriptedProvider) -> Provider:
    """Checked by mypy: it has the shape that the engine needs."""
    return provider
