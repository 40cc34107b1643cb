"""One request of httpx without limits of connections, under asyncio, its natural home, with no agent around it."""

from __future__ import annotations

import asyncio

import httpx
from _request import BODY, HEADERS, url_of
from _rounds import asyncio_rounds, load


async def main() -> None:
    wanted = load()
    url = url_of(wanted)
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=unlimited, timeout=60) as client:

        async def ask(_key: str, _text: str) -> None:
            async with client.stream("POST", url, content=BODY, headers=HEADERS) as response:
                async for _ in response.aiter_raw():
                    pass

        await asyncio_rounds(ask, wanted)


asyncio.run(main())
