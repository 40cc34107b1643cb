"""One request of httpx without limits of connections, under Trio, with no agent around it."""

from __future__ import annotations

import httpx
import trio
from _request import BODY, HEADERS, url_of
from _rounds import load
from _trio_rounds import trio_rounds


async def main() -> None:
    wanted = load()
    url = url_of(wanted)
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=unlimited, timeout=60) as client:

        async def ask(_key: str, _text: str) -> None:
            async with client.stream("POST", url, content=BODY, headers=HEADERS) as response:
                async for _ in response.aiter_raw():
                    pass

        await trio_rounds(ask, wanted)


trio.run(main)
