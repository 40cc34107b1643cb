"""Retries, the shared limiter, fallbacks and the ledger, as a user of the SDK meets them: over real HTTP."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nanobot import Nanobot
from nanobot.errors import NanobotError
from nanobot.messages import Usage
from nanobot.testing import (
    Answer,
    Cut,
    HttpResponse,
    RecordedRequest,
    ServerItem,
    Stall,
    no_leaks,
    scripted_server,
)
from tests.agent.stage import check_events
from tests.providers.shown import all_that_is_shown_of
from tests.sdk.bots import KEY, NOTHING, make_bot, rest_of

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

AT_ONCE = {"firstDelayS": 0.01, "maxDelayS": 0.02}
BUSY = HttpResponse(503, {"error": {"message": f"busy, {KEY}"}})
SLOW_DOWN = HttpResponse(429, {"error": {"message": "slow"}}, {"retry-after-ms": "2"})


def test_a_request_that_fails_is_sent_again_and_each_attempt_is_in_the_ledger(
    host: Host, tmp_path: Path
) -> None:
    script: list[ServerItem] = [BUSY, SLOW_DOWN, Answer("x", fault=Cut(0)), "here I am"]

    async def story() -> None:
        bot = make_bot(tmp_path, server.base_url, retries=True, retry=AT_ONCE)
        async with no_leaks(), bot:
            result = await bot.run("hello")
            assert (result.content, result.error) == ("here I am", None)
            attempts = result.metadata["attempts"]
            assert [(one["outcome"], one["error"]) for one in attempts] == [
                ("failed", "ServiceUnavailable"),
                ("failed", "RateLimited"),
                ("failed", "ConnectionFailed"),
                ("answered", None),
            ]
            assert [one["usage"] is None for one in attempts] == [True, True, False, False]
            assert attempts[2]["estimated"]  # it was accepted: what it cost is not known
            assert not attempts[3]["estimated"]
            assert result.metadata["request_count"] == 2
            assert result.metadata["usage_estimated"] is True
            total = sum(one["usage"]["total_tokens"] for one in attempts if one["usage"])
            assert result.usage["total_tokens"] == total
            assert await rest_of(bot) == NOTHING

    with scripted_server(script) as server:
        host.run(story)
        assert server.statistics().requests == 4


def test_what_cannot_succeed_is_asked_once(host: Host, tmp_path: Path) -> None:
    quota = HttpResponse(429, {"error": {"message": "no", "code": "insufficient_quota"}})

    async def story() -> None:
        async with make_bot(tmp_path, server.base_url, retries=True) as bot:
            for _ in range(2):
                result = await bot.run("hello")
                assert result.stop_reason == "error"
                assert result.usage["total_tokens"] == 0
                assert len(result.metadata["attempts"]) == 1

    with scripted_server([HttpResponse(401, {}), quota]) as server:
        host.run(story)
        assert server.statistics().requests == 2


@pytest.mark.parametrize("whom", ["a preset", "inline"])
def test_another_model_answers_and_is_named(whom: str, host: Host, tmp_path: Path) -> None:
    inline = {"provider": "spare", "model": "spare-model", "maxTokens": 77}
    presets = {"safe": {"provider": "spare", "model": "spare-model", "maxTokens": 77}}

    async def story() -> None:
        bot = make_bot(
            tmp_path,
            broken.base_url,
            others={"spare": spare.base_url},
            presets=presets,
            retries=True,
            fallbackModels=["safe" if whom == "a preset" else inline],
        )
        async with no_leaks(), bot:
            for number in range(5):
                run = await bot.run_streamed(f"hello {number}", session_key=f"{number}")
                events = [event async for event in run.stream_events()]
                result = await run.wait()
                check_events(events)
                assert result.content == "from the spare one"
                named = {"provider": "spare", "model": "spare-model"}
                assert result.metadata | named == result.metadata
                (said,) = [event for event in events if event.type == "text.completed"]
                assert said.metadata == named
                assert events[-1].metadata | named == events[-1].metadata
            assert broken.statistics().requests == 3  # then its circuit opened
            alone = await bot.run("hello", model="scripted/m", timeout_s=0.5)
            assert alone.stop_reason == "timeout"  # a model asked for by name is asked alone
        assert spare.requests[0].json["max_tokens"] == 77
        assert spare.requests[0].json["model"] == "spare-model"

    with (
        scripted_server(lambda _: BUSY) as broken,
        scripted_server(lambda _: "from the spare one") as spare,
    ):
        host.run(story)


def test_no_two_models_speak_in_one_answer(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        bot = make_bot(
            tmp_path,
            broken.base_url,
            others={"spare": spare.base_url},
            retries=True,
            fallbackModels=[{"provider": "spare", "model": "spare-model"}],
        )
        async with bot:
            result = await bot.run("hello")
            assert (result.content, result.stop_reason) == ("one two ", "error")
            assert result.metadata["provider"] == "scripted"

    with (
        scripted_server([Answer("one two three", fault=Cut(2))]) as broken,
        scripted_server([]) as spare,
    ):
        host.run(story)
        assert spare.statistics().requests == 0


def test_two_hundred_sessions_against_a_service_that_refuses_half_lose_nothing(
    host: Host, tmp_path: Path
) -> None:
    numbers = count()

    def answer(request: RecordedRequest) -> ServerItem:
        return SLOW_DOWN if next(numbers) % 2 else f"to {request.user_texts[-1].split()[0]}"

    async def story() -> None:
        bot = make_bot(tmp_path, server.base_url, retries=True, provider_settings=limits)
        answers: dict[str, str] = {}

        async def session(number: int) -> None:
            result = await bot.run(f"u{number} asks", session_key=f"{number}")
            assert result.error is None, result.error
            answers[f"u{number}"] = result.content

        async with no_leaks(), bot:
            await host.gather(*[lambda n=n: session(n) for n in range(200)])
            assert await rest_of(bot) == NOTHING
        assert answers == {f"u{n}": f"to u{n}" for n in range(200)}

    limits: dict[str, Any] = {"maxConcurrentRequests": 12}
    with scripted_server(answer) as server:
        host.run(story, limit_s=100)  # 400 requests one after the other, perhaps on a busy machine
        assert server.statistics().peak_requests_in_flight <= 12
        assert server.statistics().peak_connections <= 12
        assert server.statistics().requests == 399  # the last one to come was not refused


def test_a_run_that_is_cancelled_has_its_ledger(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            run = await bot.run_streamed("hello")
            async for event in run.stream_events():
                if event.type == "text.delta":
                    break
            await run.cancel()
            result = await run.wait()
            (attempt,) = result.metadata["attempts"]
            assert (result.stop_reason, attempt["outcome"]) == ("cancelled", "cancelled")
            assert attempt["estimated"]
            assert result.usage["prompt_tokens"] == attempt["usage"]["prompt_tokens"] > 0

            waiting = await bot.run_streamed("hello again", session_key="two")
            await host.sleep(0.2)
            await waiting.cancel()
            (attempt,) = (await waiting.wait()).metadata["attempts"]
            assert attempt["outcome"] == "cancelled"

    with scripted_server(
        [Answer("one two three", fault=Stall(2)), Answer("x", fault=Stall(None))]
    ) as server:
        host.run(story)


def test_money_is_counted_by_the_list_price(host: Host, tmp_path: Path) -> None:
    usage = Usage(1_000_000, 100_000, 1_100_000, cached_tokens=400_000)

    async def story() -> None:
        folder = tmp_path / "bot"
        folder.mkdir()
        bot = make_bot(
            folder, server.base_url, others={"openai": server.base_url}, model="openai/gpt-4.1"
        )
        async with bot:
            result = await bot.run("hello")
            # gpt-4.1: 2 dollars per million, 0.5 from the cache, 8 for what it says
            assert result.metadata["cost"] == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.1 * 8)
            assert result.usage["cached_tokens"] == 400_000
            unpriced = await bot.run("hello", model="scripted/m")
            assert unpriced.metadata["cost"] is None

    with scripted_server([Answer("ok", usage=usage), "ok"]) as server:
        host.run(story)


def test_a_key_is_nowhere_but_on_the_wire(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that fails quotes the key; then everything that was said, logged or written is searched for it."""
    quoting = [
        HttpResponse(status, {"error": {"message": f"your key {KEY} is {status}"}}, {"x-key": KEY})
        for status in (503, 429, 500)
    ]
    script: list[ServerItem] = [
        *quoting,
        "fine",
        HttpResponse(401, KEY),
        HttpResponse(400, f"<p>{KEY}</p>"),
        "fine",
    ]
    said: list[str] = []

    async def story() -> None:
        bot = make_bot(tmp_path, server.base_url, retries=True, retry=AT_ONCE)
        said.extend((repr(bot), repr(vars(bot))))
        async with bot:
            for _ in range(4):
                run = await bot.run_streamed("hello", session_key="one")
                said.extend([repr(event) async for event in run.stream_events()])
                said.append(repr(await run.wait()))
            said.extend((repr(bot.sessions.get("one")), repr(bot.sessions.list())))

    caplog.set_level(logging.DEBUG)
    with scripted_server(script) as server:
        host.run(story)
        assert all(KEY in request.headers["authorization"] for request in server.requests)
        assert server.statistics().requests == 7
    assert "asking scripted again" in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "config.json"]
    for text in (*said, caplog.text, *map(repr, caplog.records)):
        assert KEY not in text
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


def test_what_is_raised_shows_no_key_in_the_variables_of_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    broken = tmp_path / "broken.json"
    broken.write_text(f'{{"providers": {{"openai": {{"apiKey": "{KEY}", "proxy": 1}}}}}}')
    no_json = tmp_path / "no.json"
    no_json.write_text(f'{{"providers": {{"openai": {{"apiKey": "{KEY}"')
    bot = make_bot(tmp_path, "http://127.0.0.1:1/v1")
    config = tmp_path / "config.json"
    for refused in (
        lambda: Nanobot.from_config(broken),
        lambda: Nanobot.from_config(no_json),
        lambda: Nanobot.from_config(config, model_preset="none"),
        lambda: Nanobot.from_config(config, model=" "),
        lambda: Nanobot.from_config(config, workspace="/dev/null/here"),
        lambda: bot.run_sync("hi", model_preset="none"),
        lambda: bot.run_sync("hi", max_iterations=0),
    ):
        with pytest.raises(NanobotError) as caught:
            refused()
        assert KEY not in all_that_is_shown_of(caught.value)
    assert KEY not in repr(vars(bot))
    bot.close()
