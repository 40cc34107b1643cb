"""What a request has cost, by list prices."""

from __future__ import annotations

from nanobot.messages import Usage

from ._known_models import price_of

__all__ = ["cost_usd"]

_PER: float = 1_000_000
"""Prices are per so many tokens."""


def cost_usd(provider: str, model: str, usage: Usage) -> float | None:
    """US dollars for one request at the price that its vendor lists; None if that is not known.

    Tokens read from a cache and written to it are part of the prompt, and have prices of their own where the vendor
    charges them apart. Discounts, batch prices and taxes are not known here.
    """
    price = price_of(provider, model, prompt_tokens=usage.prompt_tokens)
    if price is None:
        return None
    read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    plain = max(0, usage.prompt_tokens - read - written)
    read_price = price.input if price.cached_input is None else price.cached_input
    write_price = price.input if price.cache_write is None else price.cache_write
    return (
        plain * price.input
        + read * read_price
        + written * write_price
        + usage.completion_tokens * price.output
    ) / _PER
