"""Answers that are ready to send: the right one, however often and by whomever it is asked for."""

from __future__ import annotations

from nanobot.testing import Answer, Cut, HttpResponse
from nanobot.testing._playback import Asked, Playback, Send, playback
from nanobot.testing._playback_cache import CACHED_TEMPLATES, PlaybackCache


def sent(steps: Playback, number: int) -> bytes:
    return b"".join(step.payload(b"%08x" % number) for step in steps if isinstance(step, Send))


def test_one_answer_is_ready_for_every_form_in_which_it_is_asked_for() -> None:
    cache, answer = PlaybackCache(), Answer("Hello")
    ways = [Asked("a", stream=True), Asked("b", stream=True), Asked("a", stream=False)]
    ways.append(Asked("a", stream=True, include_usage=True))
    for number, asked in enumerate(ways * 2, start=1):
        expected = sent(playback(answer, asked, f"{number:08x}"), number)
        assert sent(cache.playback_for(answer, asked, number), number) == expected


def test_an_answer_that_is_given_again_is_not_encoded_again() -> None:
    cache, answer, asked = PlaybackCache(), Answer("Hello"), Asked("m", stream=True)
    assert cache.playback_for(answer, asked, 1) is cache.playback_for(answer, asked, 2)


def test_faults_and_responses_are_made_for_each_request() -> None:
    cache, asked = PlaybackCache(), Asked("m", stream=True)
    for item in (Answer("Hello", fault=Cut(99)), HttpResponse(500)):
        for number in (1, 2):
            assert cache.playback_for(item, asked, number) == playback(item, asked, f"{number:08x}")


def test_answers_that_are_never_given_again_do_not_pile_up() -> None:
    cache, asked = PlaybackCache(), Asked("m", stream=False)
    for number in range(2 * CACHED_TEMPLATES):
        assert b"answer %d" % number in sent(
            cache.playback_for(Answer(f"answer {number}"), asked, number), number
        )
    assert len(cache._templates) <= CACHED_TEMPLATES
