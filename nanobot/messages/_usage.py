"""Token counts of one request, or of several summed."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["Usage"]


class Usage(Struct, frozen=True, gc=False):
    """Tokens as the provider counts them. `total_tokens` is the sum unless the provider says otherwise.

    `cached_tokens` (read from a cache, part of the prompt), `reasoning_tokens` (part of the completion) and
    `cache_write_tokens` (written to a cache, part of the prompt) are None when not reported.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        if self == _NONE:  # as each sum begins
            return other
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            _sum(self.cached_tokens, other.cached_tokens),
            _sum(self.reasoning_tokens, other.reasoning_tokens),
            _sum(self.cache_write_tokens, other.cache_write_tokens),
        )

    def to_dict(self) -> dict[str, int]:
        """The counts as `RunResult.usage` shows them: the three sums, plus what the provider reported beyond them."""
        counts = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }
        if self.cached_tokens is not None:
            counts["cached_tokens"] = self.cached_tokens
        if self.reasoning_tokens is not None:
            counts["reasoning_tokens"] = self.reasoning_tokens
        if self.cache_write_tokens is not None:
            counts["cache_write_tokens"] = self.cache_write_tokens
        return counts


_NONE: Final = Usage()


def _sum(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other
