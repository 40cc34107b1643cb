"""What a bot no longer holds once its runs have ended."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot import Nanobot
from nanobot.testing import scripted_server
from tests.sdk.bots import make_bot


class Payload:
    """What a caller gave along, and would miss if it stayed."""


@pytest.mark.parametrize(
    "run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"]
)
def test_a_run_is_let_go_of_when_it_has_ended_also_if_it_came_before_the_engine_was_there(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    with scripted_server(["One.", "Two.", "Three."]) as server:
        bot = make_bot(tmp_path, server.base_url)
        run(nothing_is_kept(bot))


async def nothing_is_kept(bot: Nanobot) -> None:
    async with bot:
        payloads = [Payload() for _ in range(3)]
        kept = [weakref.ref(payload) for payload in payloads]
        for number, payload in enumerate(payloads):
            result = await bot.run("Hello.", session_key=f"user:{number}", deps=payload)
            assert result.error is None
        del payload, payloads
        gc.collect()
        assert [one() for one in kept] == [None] * 3
