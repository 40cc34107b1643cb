"""A model that makes sure that many ask at once."""

from __future__ import annotations

import trio

from nanobot.testing import Answer, RecordedRequest, ServerItem


class Crowd:
    """A model that answers nobody before everybody has asked, and then takes its time with each answer."""

    def __init__(self, count: int, then: Answer) -> None:
        self._missing = count
        self._then = then
        self._complete = trio.Event()

    async def __call__(self, request: RecordedRequest) -> ServerItem:
        if request.last_role == "tool":
            return self._then
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()
        if "look" in request.user_texts[-1]:
            return Answer(tool_calls=[("list_dir", {"path": "."})])
        return self._then
