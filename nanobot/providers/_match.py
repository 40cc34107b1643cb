"""Which provider serves a model: decided from names alone, and never by a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from nanobot.config import provider_key
from nanobot.errors import ConfigError

from ._catalog import UNSUPPORTED, ProviderEntry
from ._configured import Configured, find_provider

__all__ = ["Match", "MatchReason", "match_provider", "model_words", "wire_model"]

MatchReason: TypeAlias = Literal["named", "prefix", "family", "local", "only"]


class Match(Struct, frozen=True):
    """The provider that serves a model, the model's name on its wire, and the rule that decided."""

    provider: Configured
    model: str
    reason: MatchReason


def match_provider(
    model: str, *, provider: str = "auto", configured: Sequence[Configured]
) -> Match:
    """Find the one provider that serves a model.

    A provider that is named is taken. Else the first rule that finds one decides:

    1. the part of the model before its first `/` names a provider that can be used;
    2. whole words of the model's name are the family of a provider that is ready (`gpt`, `claude`, …);
    3. a server that the user runs is ready; not for a prefix of another provider, nor for closed weights;
    4. only one ready provider could serve the model: any for an unknown one, else one that hosts such models.

    Raises:
      ConfigError: No provider can be used, and what to set; or several could, and which.
    """
    if not model.strip():
        raise ConfigError("The model's name is empty.")
    if provider_key(provider) != "auto":
        return _named(model, provider, configured)
    prefix, slash, _ = model.partition("/")
    owner = find_provider(prefix, configured) if slash and prefix else None
    words = model_words(model)
    disowned = owner is not None and not words.isdisjoint(owner.entry.not_words)
    if disowned:
        owner = None
    if owner is not None and not owner.missing:
        return Match(owner, wire_model(owner.entry, model), "prefix")
    if owner is not None and not owner.entry.makes_models:
        raise ConfigError(_not_ready(model, owner))
    if owner is None and slash and (refusal := _refusal(prefix)):
        raise ConfigError(refusal)

    ready = [one for one in configured if one.ready]
    family = [one for one in configured if _is_family(one.entry, words)]
    if owner is None and (found := _only(model, [one for one in family if one.ready])):
        return Match(found, wire_model(found.entry, model), "family")
    closed = any(not words.isdisjoint(one.entry.closed_words) for one in family)
    servers = [one for one in ready if one.entry.local]
    if owner is None and not closed and (found := _only(model, servers)):
        return Match(found, wire_model(found.entry, model), "local")
    hosting = {"all"} if closed else {"all", "open"}
    if owner is None and not family and not disowned:
        hosting = {"all", "open", "own"}
    able = [one for one in ready if not one.entry.local and one.entry.hosts in hosting]
    if found := _only(model, able):
        return Match(found, wire_model(found.entry, model), "only")
    lacking = owner or next(iter(family), None)
    if lacking is not None:
        raise ConfigError(_not_ready(model, lacking, ready))
    raise ConfigError(
        f"No provider is configured for model {model!r}: set the key of one in the environment, such "
        "as ANTHROPIC_API_KEY or OPENAI_API_KEY, or as providers.<name>.apiKey in the config file."
    )


def wire_model(entry: ProviderEntry, model: str) -> str:
    """The model's name as this provider wants to hear it; see `PrefixRule`.

    Raises:
      ConfigError: Nothing is left of the name.
    """
    prefix, slash, rest = model.partition("/")
    own_names = {provider_key(name) for name in (entry.name, *entry.aliases)}
    if entry.prefix == "strip_all":
        name = model.rsplit("/", 1)[-1]
    elif not slash or provider_key(prefix) not in own_names or model in entry.own_models:
        name = model
    else:
        is_own = entry.prefix == "strip_if_nested" and rest and "/" not in rest
        name = model if is_own else rest
    if not name.strip():
        raise ConfigError(f"{model!r} names a provider and no model.")
    return name


def model_words(model: str) -> frozenset[str]:
    """The whole words of a model's name in lower case, each also without a final number: `qwen2` and `qwen`."""
    words = re.findall(r"[a-z0-9]+", model.lower())
    return frozenset(words) | {stem for word in words if (stem := word.rstrip("0123456789"))}


def _is_family(entry: ProviderEntry, words: frozenset[str]) -> bool:
    return not words.isdisjoint(entry.words) and words.isdisjoint(entry.not_words)


def _named(model: str, provider: str, configured: Sequence[Configured]) -> Match:
    chosen = find_provider(provider, configured)
    if chosen is None:
        known = ", ".join(sorted(one.name for one in configured))
        raise ConfigError(
            _refusal(provider)
            or f"There is no provider {provider!r}. Known: {known}. "
            "Any other name needs providers.<name>.apiBase."
        )
    if chosen.missing:
        raise ConfigError(_not_ready(model, chosen))
    return Match(chosen, wire_model(chosen.entry, model), "named")


def _only(model: str, candidates: Sequence[Configured]) -> Configured | None:
    if len(candidates) > 1:
        names = ", ".join(one.name for one in candidates)
        raise ConfigError(
            f"Several providers could serve model {model!r}: {names}. Name one, as `provider` beside the "
            f"model or before it, such as {candidates[0].name}/{model}."
        )
    return candidates[0] if candidates else None


def _not_ready(model: str, provider: Configured, ready: Sequence[Configured] = ()) -> str:
    others = ", ".join(one.name for one in ready)
    return (
        f"No provider is configured for model {model!r}. It is served by {provider.entry.label}: "
        f"{provider.missing or f'name it, as {provider.name}/{model}'}."
        + (f" Configured so far: {others}." if others else "")
    )


def _refusal(name: str) -> str:
    key = provider_key(name)
    reason = next((why for known, why in UNSUPPORTED.items() if provider_key(known) == key), "")
    return f"The provider {name!r} cannot be used: {reason}." if reason else ""
