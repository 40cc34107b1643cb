"""Keeps answers that are given again and again as bytes that are ready to send."""

from __future__ import annotations

from ._answer import Answer, HttpResponse, RawResponse
from ._playback import Asked, Playback, playback, playback_template

__all__ = ["PlaybackCache"]

CACHED_TEMPLATES = 256
"""How many are kept: more than any script repeats, few enough to forget about."""


class PlaybackCache:
    """Makes playbacks; for an answer object that was given before, without encoding it again."""

    def __init__(self) -> None:
        self._templates: dict[tuple[int, Asked], tuple[Answer, Playback]] = {}

    def playback_for(
        self, item: Answer | HttpResponse | RawResponse, asked: Asked, number: int
    ) -> Playback:
        """What to do for the request of this number. Raises what encoding the item raises."""
        if not isinstance(item, Answer) or item.fault is not None:
            return playback(item, asked, f"{number:08x}")
        ready = self._templates.get((id(item), asked))
        if ready is None:
            if len(self._templates) >= CACHED_TEMPLATES:
                self._templates.clear()
            # The answer is kept with its template: while it is, no other object can have its id.
            ready = self._templates[id(item), asked] = (item, playback_template(item, asked))
        return ready[1]
