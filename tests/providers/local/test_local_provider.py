"""The provider and the servers that come and go under it, with a stand-in for the server."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from nanobot.errors import ConnectionFailed, ProviderError, ServiceUnavailable, UsageError
from nanobot.messages import TextDelta, UserMessage
from nanobot.providers import ModelRequest
from nanobot.providers.local import LocalProvider
from nanobot.testing import no_leaks


class Model(Protocol):
    def __call__(self, **script: object) -> Path: ...


@asynccontextmanager
async def provider_of(model: Path, *, name: str = "local") -> AsyncIterator[LocalProvider]:
    """A provider that is closed after the block, and then must have left nothing."""
    async with no_leaks():
        provider = LocalProvider(name=name, model_path=model, parallel=1)
        try:
            yield provider
        finally:
            await provider.aclose()


async def answer(provider: LocalProvider, text: str = "hi") -> str:
    """Ask, and read the answer to its end."""
    stream = await provider.open(ModelRequest("small", [UserMessage(text)]))
    try:
        deltas = [delta async for batch in stream for delta in batch]
    finally:
        await stream.aclose()
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def starts(path: Path) -> list[int]:
    """The ids of the server processes that were started, in order."""
    return [int(line) for line in path.read_text("utf-8").split()] if path.exists() else []


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    while not condition():  # noqa: ASYNC110 - no event tells of it
        await trio.sleep(0.01)


async def test_the_first_request_starts_the_server_and_the_next_ones_share_it(
    scripted_model: Model, tmp_path: Path
) -> None:
    log = tmp_path / "starts"
    async with provider_of(scripted_model(starts=str(log))) as provider:
        assert provider.server_pid is None
        assert await answer(provider) == "one two three four"
        assert await answer(provider) == "one two three four"
        assert starts(log) == [provider.server_pid]
    assert provider.server_pid is None


async def test_a_provider_that_was_never_asked_starts_nothing(
    scripted_model: Model, tmp_path: Path
) -> None:
    async with provider_of(scripted_model(starts=str(tmp_path / "starts"))):
        pass
    assert starts(tmp_path / "starts") == []


async def test_requests_at_once_share_one_start_also_when_some_give_up(
    scripted_model: Model, tmp_path: Path
) -> None:
    log, go = tmp_path / "starts", tmp_path / "go"
    model = scripted_model(starts=str(log), waits_for=str(go))
    answers: list[str] = []

    async def ask(provider: LocalProvider, scope: trio.CancelScope) -> None:
        with scope:
            answers.append(await answer(provider))

    async with provider_of(model) as provider:
        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(9)]
            for scope in scopes:
                nursery.start_soon(ask, provider, scope)
            await until(lambda: len(starts(log)) > 0)
            for scope in scopes[::3]:  # the first in line is among those who give up
                scope.cancel()
            await wait_all_tasks_blocked()
            go.touch()
        assert answers == ["one two three four"] * 6
        assert starts(log) == [provider.server_pid]


async def test_a_start_that_everybody_gave_up_on_serves_the_next_request(
    scripted_model: Model, tmp_path: Path
) -> None:
    log, go = tmp_path / "starts", tmp_path / "go"
    model = scripted_model(starts=str(log), waits_for=str(go))
    async with provider_of(model) as provider:
        while not starts(log):
            with trio.move_on_after(0.05):
                await answer(provider)
        go.touch()
        assert await answer(provider) == "one two three four"
        assert starts(log) == [provider.server_pid]


async def test_a_server_killed_between_requests_is_replaced(scripted_model: Model) -> None:
    async with provider_of(scripted_model()) as provider:
        await answer(provider)
        killed = provider.server_pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert await answer(provider) == "one two three four"
        assert provider.server_pid not in (killed, None)


async def test_a_server_killed_under_ten_requests_at_once_is_replaced_once(
    scripted_model: Model, tmp_path: Path
) -> None:
    log = tmp_path / "starts"
    async with provider_of(scripted_model(starts=str(log))) as provider:
        await answer(provider)
        os.kill(starts(log)[0], signal.SIGKILL)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(answer, provider)
        assert len(starts(log)) == 2


async def test_an_answer_that_dies_with_the_server_fails_and_the_next_one_comes(
    scripted_model: Model,
) -> None:
    async with provider_of(scripted_model()) as provider:
        with pytest.raises(ConnectionFailed) as caught:
            await answer(provider, "die halfway")
        assert caught.value.retryable
        assert await answer(provider) == "one two three four"


async def test_a_request_that_kills_every_server_is_tried_on_no_more_than_two(
    scripted_model: Model, tmp_path: Path
) -> None:
    log = tmp_path / "starts"
    async with provider_of(scripted_model(starts=str(log))) as provider:
        with pytest.raises(ConnectionFailed):
            await answer(provider, "die before you answer")
        assert len(starts(log)) == 2
        assert await answer(provider) == "one two three four"


async def test_a_server_that_does_not_start_is_explained_with_the_end_of_its_log(
    scripted_model: Model,
) -> None:
    model = scripted_model(logs="bad magic\n", raises="init failed")
    async with provider_of(model, name="tiny") as provider:
        with pytest.raises(ServiceUnavailable) as caught:
            await answer(provider)
    assert str(caught.value) == (
        "tiny: the embedded model's server does not start: it exited with status 1. "
        f"Is {model} a model that llama.cpp can run? Its log ends:\n"
        "bad magic\nRuntimeError: init failed"
    )
    assert caught.value.provider == "tiny"
    assert caught.value.body_excerpt == "bad magic\nRuntimeError: init failed"
    assert caught.value.retry_after_s is None
    assert caught.value.retryable


async def test_after_three_failed_starts_it_pauses_for_half_a_minute(
    scripted_model: Model, tmp_path: Path, mock_clock: MockClock
) -> None:
    log = tmp_path / "starts"
    scripted_model(starts=str(log), raises="no")
    async with provider_of(tmp_path / "scripted.gguf") as provider:
        for _ in range(5):
            with pytest.raises(ServiceUnavailable) as caught:
                await answer(provider)
        assert len(starts(log)) == 3
        assert "It failed 3 times in a row; it is tried again in 30 s." in str(caught.value)
        assert caught.value.retry_after_s == 30.0
        mock_clock.jump(30.0)
        with pytest.raises(ServiceUnavailable):
            await answer(provider)
        assert len(starts(log)) == 4
        mock_clock.jump(30.0)
        scripted_model(starts=str(log))  # the cause is gone
        assert await answer(provider) == "one two three four"
        os.kill(starts(log)[-1], signal.SIGKILL)
        scripted_model(starts=str(log), raises="no")
        for _ in range(3):  # the earlier failures are forgotten
            with pytest.raises(ServiceUnavailable):
                await answer(provider)
        assert len(starts(log)) == 8


async def test_closing_breaks_off_a_start(scripted_model: Model, tmp_path: Path) -> None:
    model = scripted_model(waits_for=str(tmp_path / "never"))
    async with provider_of(model) as provider, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(UsageError, match="provider 'local' is closed; make a new one"):
                await answer(provider)

        for _ in range(3):
            nursery.start_soon(ask)
        await until(lambda: provider.server_pid is not None)
        nursery.start_soon(provider.aclose)
        await provider.aclose()  # twice at once
        assert provider.server_pid is None


async def test_closing_fails_the_answers_in_flight(scripted_model: Model) -> None:
    async with provider_of(scripted_model()) as provider:
        stream = await provider.open(ModelRequest("small", [UserMessage("stop halfway")]))
        first = await anext(aiter(stream))
        assert [delta.text for delta in first if isinstance(delta, TextDelta)] == ["one"]
        await provider.aclose()
        with pytest.raises(ProviderError):
            await anext(aiter(stream))
        await stream.aclose()


async def test_closing_under_cancellation_still_ends_the_process(scripted_model: Model) -> None:
    async with provider_of(scripted_model()) as provider:
        await answer(provider)
        async with no_leaks():
            with trio.CancelScope() as scope:
                scope.cancel()
                await provider.aclose()
        assert provider.server_pid is None


async def test_a_closed_provider_refuses_requests(scripted_model: Model) -> None:
    async with provider_of(scripted_model()) as provider:
        await answer(provider)
        await provider.aclose()
        await provider.aclose()
        with pytest.raises(UsageError, match="is closed; make a new one"):
            await answer(provider)
        assert provider.server_pid is None


@pytest.mark.parametrize("setting", ["context_window_tokens", "parallel", "start_timeout_s"])
def test_numbers_that_make_no_sense_are_refused_by_name(setting: str, wheels: Path) -> None:
    with pytest.raises(UsageError, match=rf"LocalProvider\({setting}=…\) must be positive; got 0"):
        LocalProvider(**{setting: 0})  # type: ignore[arg-type]  # one of several types
