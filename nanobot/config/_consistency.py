"""What must agree between the parts of a configuration, beyond the type of each."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from ._issues import Issue, dotted
from ._schema import Settings, ToolsSettings

__all__ = ["DIRECT_PRESET", "contradictions", "provider_key"]

DIRECT_PRESET = "default"
"""The preset that the model fields of `agents.defaults` form by themselves."""


def provider_key(name: str) -> str:
    """The name under which providers are compared: `lmStudio`, `lm-studio` and `lm_studio` are one."""
    return name.replace("-", "").replace("_", "").lower()


def contradictions(settings: Settings) -> Iterator[Issue]:
    """List what cannot be used although each value by itself is fine."""
    defaults = settings.agents.defaults
    presets = settings.model_presets
    known = ", ".join(presets) if presets else "none"
    if DIRECT_PRESET in presets:
        yield Issue(
            dotted(("modelPresets", DIRECT_PRESET)),
            "the name is reserved for the model in agents.defaults; choose another",
        )
    if defaults.model_preset not in (None, "", DIRECT_PRESET, *presets):
        yield Issue(
            "agents.defaults.modelPreset", f"names no preset of modelPresets; known: {known}"
        )
    for index, fallback in enumerate(defaults.fallback_models):
        if isinstance(fallback, str) and fallback not in (DIRECT_PRESET, *presets):
            yield Issue(
                f"agents.defaults.fallbackModels.{index}",
                f"names no preset of modelPresets; known: {known}. A model is written as"
                ' {"model": "openai/gpt-4.1"}',
            )
    if defaults.dream.model_override not in (None, "", DIRECT_PRESET, *presets):
        yield Issue(
            "agents.defaults.dream.modelOverride",
            f"names no preset of modelPresets; known: {known}",
        )
    if defaults.zone and not _is_zone(defaults.zone):
        yield Issue("agents.defaults.timezone", "expected an IANA time zone such as Asia/Tokyo")
    yield from _unusable_in_tools(settings.tools)
    seen: dict[str, str] = {}
    for name in settings.providers:
        twin = seen.setdefault(provider_key(name), name)
        if twin != name:
            yield Issue(
                dotted(("providers", name)), f"is the same provider as {dotted((twin,))}; keep one"
            )


def _unusable_in_tools(tools: ToolsSettings) -> Iterator[Issue]:
    """What guards the tools has to be understood at once: a pattern that is skipped later would let everything through."""
    for key, patterns in (
        ("allowPatterns", tools.exec.allow_patterns),
        ("denyPatterns", tools.exec.deny_patterns),
    ):
        for index, pattern in enumerate(patterns):
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError):
                yield Issue(f"tools.exec.{key}.{index}", "is no regular expression")
    for index, network in enumerate(tools.ssrf_whitelist):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            yield Issue(
                f"tools.ssrfWhitelist.{index}",
                "expected a network such as 10.1.0.0/16, or one address",
            )


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown name, a path, a folder of zones
        return False
    return True
