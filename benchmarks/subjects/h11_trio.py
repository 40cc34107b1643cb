"""One request by way of h11 on a Trio socket, with no pool, no client and no agent around it."""

from __future__ import annotations

from urllib.parse import urlsplit

import h11
import trio
from _request import BODY, HEADERS, url_of
from _rounds import load
from _trio_rounds import trio_rounds


async def main() -> None:
    wanted = load()
    url = urlsplit(url_of(wanted))
    headers = [("host", url.netloc), ("content-length", str(len(BODY))), *HEADERS.items()]
    free: list[tuple[trio.SocketStream, h11.Connection]] = []

    async def ask(_key: str, _text: str) -> None:
        if free:
            stream, http = free.pop()
            http.start_next_cycle()
        else:
            stream = await trio.open_tcp_stream(url.hostname or "", url.port or 0)
            http = h11.Connection(h11.CLIENT)
        request = http.send(h11.Request(method="POST", target=url.path, headers=headers)) or b""
        request += http.send(h11.Data(BODY)) or b""
        request += http.send(h11.EndOfMessage()) or b""
        await stream.send_all(request)
        while type(event := http.next_event()) is not h11.EndOfMessage:
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some(65_536))
        free.append((stream, http))

    await trio_rounds(ask, wanted)


trio.run(main)
