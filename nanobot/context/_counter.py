"""The counter of a bot: exact where the extra is installed, else an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Final

import trio

from nanobot.messages import Message

from ._tokens import TextCounter, estimate_text, exact_counter, messages_tokens

__all__ = ["LazyCounter", "count_ahead"]

# Encoding runs at some 10 MB/s: this much holds up the event loop for 2 ms, and a thread would cost a tenth of that.
_AT_ONCE_CHARS: Final = 20_000


class LazyCounter:
    """Gives a counter, loaded with the first use: in a thread, for it takes half a second, if it is there to be loaded."""

    def __init__(self) -> None:
        self._counter: TextCounter | None = None

    async def __call__(self) -> TextCounter:
        """The same counter each time."""
        if self._counter is None:
            if find_spec("bpe_openai") is None:
                self._counter = estimate_text
            else:
                loaded = await trio.to_thread.run_sync(exact_counter, abandon_on_cancel=True)
                self._counter = self._counter or loaded or estimate_text
        return self._counter


async def count_ahead(messages: Iterable[Message], count: TextCounter) -> None:
    """Have long texts counted in a thread, by a counter that remembers them, so that the event loop need not do it.

    Cancellation: abandons it; they are counted when they are needed.
    """
    if count is estimate_text:  # which takes no time
        return
    uncounted = [*messages]
    if sum(map(_chars, uncounted)) > _AT_ONCE_CHARS:
        await trio.to_thread.run_sync(messages_tokens, uncounted, count, abandon_on_cancel=True)


def _chars(message: Message) -> int:
    content = message.content
    return len(content) if isinstance(content, str) else _AT_ONCE_CHARS + 1
