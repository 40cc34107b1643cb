"""One request of httpx's client over our transport, with no agent around it."""

from __future__ import annotations

import httpx
import trio
from _request import BODY, HEADERS, url_of
from _rounds import load
from _trio_rounds import trio_rounds

from nanobot.providers._transport import PoolTransport


async def main() -> None:
    wanted = load()
    url = url_of(wanted)
    async with httpx.AsyncClient(transport=PoolTransport(), timeout=60) as client:

        async def ask(_key: str, _text: str) -> None:
            async with client.stream("POST", url, content=BODY, headers=HEADERS) as response:
                async for _ in response.aiter_raw():
                    pass

        await trio_rounds(ask, wanted)


trio.run(main)
