"""One request by way of our connection pool, called directly, with no agent around it."""

from __future__ import annotations

import trio
from _request import BODY, HEADERS, url_of
from _rounds import load
from _trio_rounds import trio_rounds

from nanobot.providers._address import address_from_url
from nanobot.providers._pool import ConnectionPool
from nanobot.providers._request_head import RequestHead


async def main() -> None:
    wanted = load()
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    head = RequestHead("POST", address_from_url(url_of(wanted)), headers)
    pool = ConnectionPool()

    async def ask(_key: str, _text: str) -> None:
        exchange = await pool.exchange(head, BODY)
        while await exchange.read():
            pass

    await trio_rounds(ask, wanted)
    await pool.aclose()


trio.run(main)
