"""Short-lived tokens: issued over HTTP, used once, by a client that cannot put a header on its WebSocket. No clock here."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final

__all__ = ["MAX_OUTSTANDING", "TOKEN_PREFIX", "Tokens", "same_secret"]

TOKEN_PREFIX: Final = "nbwt_"
MAX_OUTSTANDING: Final = 10_000
"""Tokens that were issued and neither used nor expired; past it none are issued."""


class Tokens:
    """Hands out tokens that are good for one connection within `ttl_s` seconds."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self._expires_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._expires_at)

    def issue(self, now: float) -> str | None:
        """A new token; None if too many are outstanding."""
        while self._expires_at:
            token, expires_at = next(iter(self._expires_at.items()))
            if expires_at > now:
                break
            del self._expires_at[token]
        if len(self._expires_at) >= MAX_OUTSTANDING:
            return None
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._expires_at[token] = now + self.ttl_s
        return token

    def redeem(self, token: str, now: float) -> bool:
        """Use a token up; returns whether it was good. That it is found by a hash tells nobody its letters: they are 256
        random bits, and each is tried once.
        """
        expires_at = self._expires_at.pop(token, None)
        return expires_at is not None and expires_at > now


def same_secret(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on where the two differ; "" is never the same as anything."""
    return bool(expected) and secrets.compare_digest(
        given.encode(errors="replace"), expected.encode()
    )
