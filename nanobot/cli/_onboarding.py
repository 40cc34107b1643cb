"""What onboarding decides: from answers to a configuration. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from nanobot.config import changed, provider_key
from nanobot.providers._catalog import CATALOG, ProviderEntry, custom_entry
from nanobot.providers._configured import Configured

from ._failure import Failure
from ._json_schema import config_schema
from ._masking import masked

__all__ = [
    "Answers",
    "changes",
    "choices",
    "entry_from_name",
    "key_from_text",
    "tree_from_answers",
    "usual_model",
]

_VARIABLE: Final = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

# First what most people come with; the others follow as the catalog has them.
_FIRST: Final = ("anthropic", "openai", "openrouter", "gemini", "ollama", "local")


class Answers(Struct, frozen=True, kw_only=True):
    """What was answered. An empty `key`, `base` or `workspace` leaves what the configuration says.

    `key` is a key, or `${VARIABLE}`; `settings` are others, by the path of their key.
    """

    provider: str
    model: str
    key: str = ""
    base: str = ""
    workspace: str = ""
    settings: Mapping[tuple[str, ...], Any] = field(default_factory=dict)


def choices(configured: Sequence[Configured]) -> list[Configured]:
    """The providers to choose from: those that are ready, then the usual ones, then the rest."""

    def rank(one: Configured) -> tuple[bool, int]:
        place = _FIRST.index(one.name) if one.name in _FIRST else len(_FIRST)
        return (not one.ready, place)

    return sorted(configured, key=rank)


def entry_from_name(name: str) -> ProviderEntry:
    """What is known of a provider, also under an alias; a name that is not known is one of the user's own."""
    key = provider_key(name)
    for entry in CATALOG.values():
        if key in map(provider_key, (entry.name, *entry.aliases)):
            return entry
    if not _NAME.fullmatch(name):
        raise Failure(
            f"{name!r} cannot be the name of a provider.",
            "Take one of the list, or a word of letters, digits, - and _ for a service of your own.",
        )
    return custom_entry(name)


def usual_model(entry: ProviderEntry) -> str:
    """The model to propose, with the provider's name before it; "" if only the user can know."""
    model = entry.default_model or ""
    return model if not model or model.startswith(f"{entry.name}/") else f"{entry.name}/{model}"


def key_from_text(text: str) -> str:
    """What to store for what was typed: `$NAME` becomes `${NAME}`, anything else is the key itself."""
    text = text.strip()
    variable = _VARIABLE.fullmatch(text)
    return f"${{{variable[1]}}}" if variable else text


def tree_from_answers(tree: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """The object of a configuration file with the answers in it; everything else stays as it is."""
    new = changed(tree, ("agents", "defaults", "model"), answers.model)
    defaults: dict[str, Any] = new["agents"]["defaults"]
    # A preset or a provider chosen earlier would win over the model that was just chosen.
    defaults = {key: value for key, value in defaults.items() if key != "modelPreset"}
    defaults["provider"] = answers.provider
    if answers.workspace:
        defaults["workspace"] = answers.workspace
    new = changed(new, ("agents", "defaults"), defaults)
    name = _spelling(new, answers.provider)
    if answers.key:
        new = changed(new, ("providers", name, "apiKey"), answers.key)
    if answers.base:
        new = changed(new, ("providers", name, "apiBase"), answers.base)
    for keys, value in answers.settings.items():
        new = changed(new, keys, value)
    return new


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What is different: dotted key → what it said and what it says, as it may be shown; "–" where there is nothing."""
    schema = config_schema()
    before, after = dict(_leaves(old)), dict(_leaves(new))
    shown_before = dict(_leaves(masked(dict(old), schema, schema)))
    shown_after = dict(_leaves(masked(dict(new), schema, schema)))
    return {
        ".".join(keys): (_shown(shown_before, keys), _shown(shown_after, keys))
        for keys in (*before, *(keys for keys in after if keys not in before))
        if before.get(keys, _leaves) != after.get(keys, _leaves)
    }


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, Mapping):
        for key, member in tree.items():
            yield from _leaves(member, (*path, key))
    else:
        yield path, tree


def _shown(leaves: Mapping[tuple[str, ...], Any], keys: tuple[str, ...]) -> str:
    if keys not in leaves:
        return "–"
    value = leaves[keys]
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _spelling(tree: Mapping[str, Any], provider: str) -> str:
    """The provider's name as the file has it already."""
    standing = tree.get("providers", {})
    key = provider_key(provider)
    return next((name for name in standing if provider_key(name) == key), provider)
