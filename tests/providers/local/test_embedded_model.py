"""The embedded model itself: llama.cpp's server and SmolLM2, from the wheels of the `local` extra."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from nanobot.errors import RequestRejected, ServiceUnavailable
from nanobot.messages import (
    Finished,
    Message,
    SystemMessage,
    TextDelta,
    Usage,
    UsageDelta,
    UserMessage,
)
from nanobot.providers import ModelRequest
from nanobot.providers.local import INSTALL_COMMAND, LocalProvider, missing_wheels
from nanobot.providers.local._wheels import embedded_model_path
from nanobot.testing import no_leaks

pytestmark = pytest.mark.skipif(
    bool(missing_wheels()), reason=f"needs the extra `local`: {INSTALL_COMMAND}"
)

CAPITAL = "What is the capital of France?"
STORY = "Tell me a very long story about a ship."


@asynccontextmanager
async def embedded(model_path: Path | None = None) -> AsyncIterator[LocalProvider]:
    """A provider with a small window, which starts faster; after the block nothing of it may be left."""
    async with no_leaks():
        provider = LocalProvider(model_path=model_path, context_window_tokens=1024)
        try:
            yield provider
        finally:
            await provider.aclose()


def request(text: str, max_tokens: int | None = None) -> ModelRequest:
    system = "You are nanobot, a helpful AI assistant. Answer in one short sentence."
    messages: list[Message] = [SystemMessage(system), UserMessage(text)]
    return ModelRequest("smollm2-135m", messages, max_tokens=max_tokens)


async def answer(
    provider: LocalProvider, text: str, max_tokens: int | None = None
) -> tuple[list[str], Usage, str]:
    """Ask, and return the pieces of the answer, the token counts and the reason of its end."""
    pieces, usage, reason = [], Usage(), ""
    stream = await provider.open(request(text, max_tokens))
    try:
        async for batch in stream:
            for delta in batch:
                match delta:
                    case TextDelta(text=piece):
                        pieces.append(piece)
                    case UsageDelta(usage=counts):
                        usage = counts
                    case Finished(reason=why):
                        reason = why
    finally:
        await stream.aclose()
    return pieces, usage, reason


async def test_it_streams_a_right_answer_and_counts_its_tokens() -> None:
    async with embedded() as provider:
        pieces, usage, reason = await answer(provider, CAPITAL)
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 3
    assert reason == "stop"
    assert usage.prompt_tokens > 20
    assert usage.completion_tokens >= len(pieces)


async def test_two_answers_at_once_do_not_mix() -> None:
    texts: dict[str, str] = {}

    async def ask(provider: LocalProvider, question: str) -> None:
        texts[question] = "".join((await answer(provider, question))[0])

    async with embedded() as provider, trio.open_nursery() as nursery:
        for question in (CAPITAL, "What is the capital of Italy?"):
            nursery.start_soon(ask, provider, question)
    assert "Paris" in texts[CAPITAL]
    assert "Rome" not in texts[CAPITAL]
    assert "Rome" in texts["What is the capital of Italy?"]


async def test_more_requests_than_slots_wait_in_order_and_all_are_answered() -> None:
    async with embedded() as provider, trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(answer, provider, CAPITAL, 8)


async def test_after_a_cancel_in_the_middle_of_an_answer_the_next_one_comes() -> None:
    async with embedded() as provider:
        for _ in range(3):  # one more than there are slots: each must have been given back
            stream = await provider.open(request(STORY))
            with trio.CancelScope() as scope:
                async for _ in stream:
                    scope.cancel()
            assert scope.cancelled_caught
            await stream.aclose()
        assert "Paris" in "".join((await answer(provider, CAPITAL))[0])


async def test_after_kill_9_the_next_request_starts_another() -> None:
    async with embedded() as provider:
        await answer(provider, CAPITAL, 4)
        killed = provider.server_pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert "Paris" in "".join((await answer(provider, CAPITAL))[0])
        assert provider.server_pid != killed


async def test_a_request_that_fits_no_window_is_refused_and_the_next_one_answered() -> None:
    async with embedded() as provider:
        with pytest.raises(RequestRejected, match="exceeds the available context size"):
            await answer(provider, "many words " * 2000)
        assert "Paris" in "".join((await answer(provider, CAPITAL))[0])


async def test_an_answer_ends_at_the_limit_that_was_asked_for() -> None:
    async with embedded() as provider:
        _, usage, reason = await answer(provider, STORY, 5)
    assert (usage.completion_tokens, reason) == (5, "length")


async def test_a_broken_model_file_is_explained_by_its_log(tmp_path: Path) -> None:
    whole = embedded_model_path().read_bytes()
    broken = tmp_path / "half.gguf"
    broken.write_bytes(whole[: len(whole) // 2])
    async with embedded(broken) as provider:
        with pytest.raises(ServiceUnavailable) as caught:
            await answer(provider, CAPITAL)
    assert "model is corrupted or incomplete" in str(caught.value)
    assert str(broken) in str(caught.value)


PROGRAM = """
import trio
from nanobot.messages import UserMessage
from nanobot.providers import ModelRequest
from nanobot.providers.local import LocalProvider

async def main():
    provider = LocalProvider(context_window_tokens=1024)
    stream = await provider.open(ModelRequest("m", [UserMessage("Tell me a very long story.")]))
    async for _ in stream:
        print(provider.server_pid, flush=True)

trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_seconds_after_its_program_was_killed_the_server_is_gone(
    is_alive: Callable[[int], bool],
) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        server_pid = int(program.stdout.readline())
        assert is_alive(server_pid)
        program.kill()
        program.wait()
    deadline = time.monotonic() + 2
    while is_alive(server_pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
