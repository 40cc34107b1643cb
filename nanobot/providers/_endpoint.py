"""Where a model service is, and how it wants to be spoken to."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from ._rate_gate import NO_LIMITS, RateLimits

__all__ = ["Endpoint", "Timeouts"]


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long one request may stay silent, by phase, in seconds.

    `first_token_s` counts from the request being sent to the first byte of the answer: reasoning models think for minutes.
    `between_tokens_s` bounds each later silence; `request_s` the whole request, so that a drip-feeding server ends too.
    """

    connect_s: float = 10.0
    first_token_s: float = 300.0
    between_tokens_s: float = 90.0
    request_s: float = 1800.0


class Endpoint(Struct, frozen=True, kw_only=True):
    """One configured model service.

    `base_url` has no trailing slash and includes the version path where the vendor has one. An empty `api_key` sends no
    credentials. `extra_body` is merged into every request last, so that it wins over ours. `ca_file` names a file of
    certificates (PEM) that are trusted instead of the usual ones; None trusts those. `limits` are kept by whoever queues the
    requests.
    """

    name: str
    base_url: str
    api_key: str = ""
    extra_headers: dict[str, str] = field(default_factory=dict)
    extra_query: dict[str, str] = field(default_factory=dict)
    extra_body: dict[str, Any] = field(default_factory=dict)
    proxy: str | None = None
    ca_file: str | None = None
    limits: RateLimits = NO_LIMITS
    timeouts: Timeouts = field(default_factory=Timeouts)
    quirks: frozenset[str] = frozenset()

    def __repr__(self) -> str:  # an endpoint may reach a log or a traceback; its key must not
        return f"Endpoint(name={self.name!r})"
