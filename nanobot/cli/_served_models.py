"""Which models a service says it has."""

from __future__ import annotations

import os
import ssl
from typing import Final

import msgspec
from msgspec import Struct

from nanobot.providers._catalog import ProviderEntry
from nanobot.providers._configured import Configured

__all__ = ["ServedModels", "served_models"]

_WITHIN_S: Final = 10.0
_VERSION: Final = "2023-06-01"
"""What Anthropic's services want to be told, whatever is asked of them."""


class ServedModels(Struct, frozen=True):
    """The models by name, in the order of the alphabet, or why they are not known."""

    names: tuple[str, ...] = ()
    problem: str = ""


class _Model(Struct):
    id: str


class _Models(Struct):
    data: list[_Model]


def served_models(
    entry: ProviderEntry, one: Configured | None, *, base: str, key: str
) -> ServedModels:
    """Ask a service for its models; one that does not tell is no failure. Takes ten seconds at most.

    Args:
      entry: The provider.
      one: What is configured for it, if anything: its address, key, proxy and authority.
      base: An address that was just given; "" takes the one that is known.
      key: A key that was just given, or `${VARIABLE}`; "" takes the one that is known.
    """
    address = base or (one.base_url if one else "") or entry.base_url
    if entry.kind == "local" or not address:
        return ServedModels((entry.default_model,) if entry.default_model else ())
    known = one.api_key if one else ""
    secret = os.environ.get(key[2:-1], "") if key.startswith("${") else key or known
    # deferred: an HTTP client costs 60 ms to import, and only this step needs one
    import httpx

    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    if entry.kind == "anthropic":
        headers = {"x-api-key": secret, "anthropic-version": _VERSION}
        address = address.rstrip("/").removesuffix("/v1") + "/v1"
    settings = one.settings if one else None
    headers |= dict(settings.extra_headers or {}) if settings else {}
    try:
        with httpx.Client(
            timeout=_WITHIN_S,
            proxy=(settings.proxy or None) if settings else None,
            verify=ssl.create_default_context(cafile=settings.ca_file)
            if settings and settings.ca_file
            else httpx.create_ssl_context(),
            trust_env=False,
        ) as client:
            answer = client.get(f"{address.rstrip('/')}/models", headers=headers)
            answer.raise_for_status()
            models = msgspec.json.decode(answer.content, type=_Models)
    except httpx.HTTPStatusError as error:
        return ServedModels(
            problem=f"Its models are not listed: HTTP {error.response.status_code}."
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # also no such list
        return ServedModels(problem=f"Its models are not listed: {type(error).__name__}.")
    return ServedModels(tuple(sorted(model.id for model in models.data)))
