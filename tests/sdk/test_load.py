"""Many sessions at once over one bot and real HTTP. No clock is looked at: benchmarks/concurrent_answers.py does that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nanobot.cli._demo_load import allow_files
from nanobot.testing import Answer, no_leaks, scripted_server
from tests.sdk.bots import NOTHING, make_bot, rest_of
from tests.sdk.crowd import Crowd

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

MANY = pytest.mark.parametrize("count", [200, pytest.param(1_000, marks=pytest.mark.slow)])


@MANY
def test_everybody_waits_for_the_model_at_the_same_time(
    count: int, host: Host, tmp_path: Path
) -> None:
    allow_files(3 * count)  # both ends of each connection are in this process
    crowd = Crowd(count, Answer("fine now", before_first_delta_s=1.0))

    async def story() -> None:
        async with no_leaks(), make_bot(tmp_path, server.base_url) as bot:

            async def ask() -> None:
                number = next(numbers)
                result = await bot.run("hello", session_key=f"user:{number}")
                assert (result.content, result.error) == ("fine now", None)

            numbers = iter(range(count))
            await host.gather(*[ask] * count)
            assert await rest_of(bot) == NOTHING

    with scripted_server(crowd, record=False) as server:
        host.run(story)
        counts = server.wait_until(lambda counts: counts.open_connections == 0)
        assert counts.peak_requests_in_flight == count
        assert (counts.connections, counts.requests, counts.hang_ups) == (count, count, 0)


@MANY
def test_everybody_streams_and_has_a_tool_called_at_the_same_time(
    count: int, host: Host, tmp_path: Path
) -> None:
    allow_files(3 * count)
    crowd = Crowd(count, Answer(["one ", "two ", "three"], between_deltas_s=0.1))

    async def story() -> None:
        async with no_leaks(), make_bot(tmp_path, server.base_url) as bot:

            async def ask() -> None:
                number = next(numbers)
                run = await bot.run_streamed("look around", session_key=f"user:{number}")
                deltas = [event.delta async for event in run.stream_events()]
                result = await run.wait()
                assert "".join(deltas) == result.content == "one two three"
                assert result.tools_used == ["list_dir"]

            numbers = iter(range(count))
            await host.gather(*[ask] * count)
            assert await rest_of(bot) == NOTHING

    with scripted_server(crowd, record=False) as server:
        host.run(story)
        counts = server.wait_until(lambda counts: counts.open_connections == 0)
        assert counts.peak_requests_in_flight == count
        assert (counts.requests, counts.hang_ups) == (2 * count, 0)
        assert counts.connections <= 2 * count
