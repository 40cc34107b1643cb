"""A conversation of any length is summarized by a model with a small window, or not at all."""

from __future__ import annotations

import re
import threading

import pytest
import trio
from trio.testing import MockClock

from nanobot.errors import ConnectionFailed, MalformedStream, ProviderError, RateLimited
from nanobot.memory import Summarizer, SummaryFailed
from nanobot.messages import Assembler, Message, Usage, UserMessage
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, Cut, ProviderItem, ScriptedProvider

FACT = re.compile(r"FACT-\d+")


def words(text: str) -> int:
    return len(text.split())


def said(request: ModelRequest) -> str:
    return " ".join(str(message.content) for message in request.messages)


def facts_of(request: ModelRequest) -> str:
    """A model that notes the facts, and nothing else."""
    return " ".join(FACT.findall(said(request))) or "no fact"


def summarizer(provider: ScriptedProvider, **changes: object) -> Summarizer:
    fields: dict[str, object] = {
        "provider": provider,
        "model": "m",
        "window_tokens": 1_000,
        "max_tokens": 200,
        "count": words,
        **changes,
    }
    return Summarizer(**fields)  # type: ignore[arg-type]  # typed by the tests that fail otherwise


def transcript(messages: int, words_each: int = 40) -> list[Message]:
    return [
        UserMessage(f"FACT-{number} " + "and so on " * (words_each // 3))
        for number in range(messages)
    ]


async def test_what_fits_takes_one_request() -> None:
    provider = ScriptedProvider(["All is well."])
    made = await summarizer(provider, temperature=0.5).summarize(
        [UserMessage("How are you?", timestamp="noon")], limit_tokens=100, at_most_tokens=200
    )
    summary = made.text
    assert summary == "All is well."
    (request,) = provider.requests
    assert "[user, noon] How are you?" in said(request)
    assert "at most 70 words" in said(request)
    assert (request.model, request.temperature, request.max_tokens) == ("m", 0.5, 200)
    assert (request.tools, provider.streams_open) == ((), 0)


async def test_a_counter_that_takes_its_time_does_not_hold_up_the_loop() -> None:
    threads: dict[str, set[str]] = {}

    def slow_words(text: str) -> int:
        threads.setdefault(threading.current_thread().name, set()).add(text)
        return words(text)

    provider = ScriptedProvider(facts_of)
    made = await summarizer(provider, count=slow_words, counts_slowly=True).summarize(
        transcript(100), limit_tokens=100, at_most_tokens=600
    )
    assert {f"FACT-{number}" for number in range(100)} == set(FACT.findall(made.latest))
    here = threading.current_thread().name
    assert max(map(words, threads.pop(here))) < 200  # its own words, and notes
    (elsewhere,) = threads.values()
    assert len(elsewhere) >= 100


async def test_ten_windows_are_read_in_pieces_that_fit_and_each_fact_is_noted() -> None:
    provider = ScriptedProvider(facts_of)
    made = await summarizer(provider).summarize(
        transcript(250), limit_tokens=500, at_most_tokens=600
    )
    summary = made.text
    assert FACT.findall(summary) == [f"FACT-{number}" for number in range(250)]
    assert 10 <= len(provider.requests) <= 25
    for request in provider.requests:
        assert words(said(request)) + (request.max_tokens or 0) <= 1_000
        assert re.search(r"part \d+ of \d+", said(request))


async def test_one_message_longer_than_the_window_is_read_whole() -> None:
    provider = ScriptedProvider(facts_of)
    book = " ".join(f"FACT-{number} blah" for number in range(2_000))
    made = await summarizer(provider).summarize(
        [UserMessage(book)], limit_tokens=10_000, at_most_tokens=10_000
    )
    summary = made.text
    assert FACT.findall(summary) == [f"FACT-{number}" for number in range(2_000)]
    assert "[continued]" in said(provider.requests[1])


async def test_earlier_notes_stand_in_front_and_are_not_read_again() -> None:
    provider = ScriptedProvider(["new notes"])
    made = await summarizer(provider).summarize(
        transcript(2), earlier="old notes", limit_tokens=100, at_most_tokens=100
    )
    summary = made.text
    assert summary == "old notes\n\nnew notes"
    assert made.latest == "new notes"
    assert "old notes" not in said(provider.requests[0])


async def test_notes_that_are_too_long_together_are_merged() -> None:
    def merge(request: ModelRequest) -> str:
        if "<notes>" in said(request):
            return "merged: " + facts_of(request)
        return facts_of(request) + " padding" * 30

    provider = ScriptedProvider(merge)
    made = await summarizer(provider).summarize(
        transcript(40), earlier="FACT-1000 " + "old " * 50, limit_tokens=100, at_most_tokens=200
    )
    summary = made.text
    assert summary.startswith("merged: FACT-1000 FACT-0 ")
    assert len(FACT.findall(summary)) == 41
    assert words(summary) <= 100


async def test_notes_that_do_not_get_shorter_are_kept_if_they_still_fit() -> None:
    provider = ScriptedProvider(lambda request: "the same words again " * 30)
    made = await summarizer(provider).summarize(transcript(2), limit_tokens=100, at_most_tokens=200)
    summary = made.text
    assert words(summary) == 120
    assert provider.request_count == 2  # one to take them, one that did not help


async def test_notes_of_which_a_part_was_cut_in_merging_are_kept_as_they_were() -> None:
    """Else what the cut part said would be gone."""

    def cut_the_second(request: ModelRequest) -> Answer | str:
        if "<notes>" not in said(request):
            return "FACT-2"
        return "merged" if "FACT-0" in said(request) else Answer("cu", finish_reason="length")

    provider = ScriptedProvider(cut_the_second)
    earlier = "FACT-0 " + "old " * 500 + "FACT-1 " + "old " * 500
    made = await summarizer(provider).summarize(
        transcript(1), earlier=earlier, limit_tokens=100, at_most_tokens=2_000
    )
    assert FACT.findall(made.text) == ["FACT-0", "FACT-1", "FACT-2"]
    assert sum("<notes>" in said(request) for request in provider.requests) == 2


async def test_new_notes_are_asked_for_in_the_room_that_earlier_ones_leave() -> None:
    provider = ScriptedProvider(facts_of)
    await summarizer(provider).summarize(
        transcript(1), earlier="old " * 400, limit_tokens=600, at_most_tokens=600
    )
    assert "at most 140 words" in said(provider.requests[0])  # for 200 tokens


async def test_notes_that_neither_fit_nor_get_shorter_are_refused() -> None:
    provider = ScriptedProvider(lambda request: "the same words again " * 30)
    with pytest.raises(SummaryFailed, match="does not get shorter than 120 tokens"):
        await summarizer(provider).summarize(transcript(2), limit_tokens=50, at_most_tokens=100)


async def test_notes_that_were_cut_are_taken_again_on_each_half() -> None:
    def cut_long_ones(request: ModelRequest) -> Answer | str:
        if len(FACT.findall(said(request))) > 6:
            return Answer("FACT-0 FA", finish_reason="length")
        return facts_of(request)

    provider = ScriptedProvider(cut_long_ones)
    made = await summarizer(provider).summarize(transcript(8), limit_tokens=100, at_most_tokens=100)
    summary = made.text
    assert FACT.findall(summary) == [f"FACT-{number}" for number in range(8)]
    assert provider.request_count == 3


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Answer("cut", finish_reason="length"), SummaryFailed),
        (Answer("", finish_reason="stop"), SummaryFailed),
        (Answer("half", finish_reason="content_filter"), SummaryFailed),
        (Answer("half a sum", fault=Cut(after_deltas=1)), ConnectionFailed),
        (RateLimited("slow down", provider="scripted"), RateLimited),
    ],
    ids=["length", "empty", "filtered", "connection lost", "refused"],
)
async def test_what_is_no_usable_summary_is_an_error(
    answer: ProviderItem, failure: type[ProviderError]
) -> None:
    provider = ScriptedProvider(lambda request: answer)
    with pytest.raises(failure) as caught:
        await summarizer(provider).summarize(transcript(3), limit_tokens=100, at_most_tokens=100)
    assert caught.value.provider == "scripted"
    assert provider.streams_open == 0


async def test_an_answer_without_an_end_is_no_summary() -> None:
    class Broken(ScriptedProvider):
        """Ends its streams as if all were said."""

        async def open(self, request: ModelRequest):  # type: ignore[no-untyped-def]  # as the one it overrides
            stream = await super().open(request)
            stream._steps = ()
            return stream

    with pytest.raises(MalformedStream, match="without an end"):
        await summarizer(Broken(["x"])).summarize(
            transcript(1), limit_tokens=100, at_most_tokens=100
        )


async def test_a_window_too_small_for_anything_is_refused_before_any_request() -> None:
    provider = ScriptedProvider(["x"])
    with pytest.raises(SummaryFailed, match="needs more than a window of 200 tokens"):
        await summarizer(provider, window_tokens=200).summarize(
            transcript(1), limit_tokens=10, at_most_tokens=10
        )
    assert provider.request_count == 0


async def test_every_request_is_counted_also_one_that_broke_off() -> None:
    counted: list[Usage | None] = []

    def note(request: ModelRequest, answer: Assembler) -> None:
        counted.append(answer.usage)

    used = Usage(7, 3, 10)
    provider = ScriptedProvider(
        [Answer("FACT-0", usage=used), Answer("half a sum", fault=Cut(after_deltas=1))]
    )
    with pytest.raises(ConnectionFailed):
        await summarizer(provider, on_answer=note).summarize(
            transcript(40), limit_tokens=100, at_most_tokens=100
        )
    assert counted == [used, None]


async def test_a_cancelled_summary_leaves_no_stream_open(autojump_clock: MockClock) -> None:
    provider = ScriptedProvider([Answer("slow", before_first_delta_s=60)])
    with trio.move_on_after(1) as scope:
        await summarizer(provider).summarize(transcript(1), limit_tokens=100, at_most_tokens=100)
    assert scope.cancelled_caught
    assert provider.streams_open == 0
