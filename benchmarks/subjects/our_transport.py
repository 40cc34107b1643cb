"""One request by way of our transport, called directly, with no agent around it."""

from __future__ import annotations

import httpx
import trio
from _request import BODY, HEADERS, url_of
from _rounds import load
from _trio_rounds import trio_rounds

from nanobot.providers._transport import PoolTransport


async def main() -> None:
    wanted = load()
    url, headers = httpx.URL(url_of(wanted)), httpx.Headers(HEADERS)
    async with PoolTransport() as pool:

        async def ask(_key: str, _text: str) -> None:
            request = httpx.Request("POST", url, headers=headers, content=BODY)
            response = await pool.handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for _ in response.stream:
                pass
            await response.stream.aclose()

        await trio_rounds(ask, wanted)


trio.run(main)
