"""Which providers a configuration and an environment make usable, and what the others lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from nanobot.config import Config, ProviderSettings, provider_key

from ._catalog import CATALOG, UNSUPPORTED, ProviderEntry, custom_entry

__all__ = ["Configured", "config_place", "configured_providers", "find_provider"]


class Configured(Struct, frozen=True, kw_only=True):
    """One provider with what is configured for it.

    Attributes:
      entry: What is known of it.
      settings: Its section of the configuration.
      api_key: From the configuration, or else from the environment; "" for none.
      key_source: Where the key is from: a config path, a variable's name, or "".
      base_url: As given, not yet completed.
      ready: Whether it is a choice by itself; the others have to be named.
      missing: What to set, and where, before it can be used; "" when nothing is missing.
    """

    entry: ProviderEntry
    settings: ProviderSettings
    api_key: str
    key_source: str
    base_url: str
    ready: bool
    missing: str

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def custom(self) -> bool:
        """Whether only the configuration knows this provider."""
        return self.entry.name not in CATALOG

    def __repr__(self) -> str:  # a key must not reach a log
        return f"Configured(name={self.name!r}, ready={self.ready})"


def configured_providers(config: Config, env: Mapping[str, str]) -> tuple[Configured, ...]:
    """Every provider of the catalog, then those that only the configuration knows."""
    place = config_place(config)
    named = {provider_key(name): (name, settings) for name, settings in config.providers.items()}
    found: list[Configured] = []
    for entry in CATALOG.values():
        keys = [provider_key(name) for name in (entry.name, *entry.aliases)]
        key = next((key for key in keys if key in named), None)
        name, settings = named.pop(key) if key else (entry.name, ProviderSettings())
        # A server of the user's own may be called `local` as well; then it is not the embedded model.
        own_server = entry.kind == "local" and settings.api_base
        known = custom_entry(name) if own_server else entry
        found.append(_configured(known, name, settings, env, place))
    unsupported = {provider_key(name) for name in UNSUPPORTED}
    for key, (name, settings) in named.items():
        # Files list providers of other versions with nothing set; those are not ours to complain about.
        if settings.api_base or (settings.api_key and key not in unsupported):
            found.append(_configured(custom_entry(name), name, settings, env, place))
    return tuple(found)


def find_provider(name: str, configured: Sequence[Configured]) -> Configured | None:
    """The provider of this name or alias; `-`, `_` and case do not matter."""
    key = provider_key(name)
    for provider in configured:
        if key in map(provider_key, (provider.entry.name, *provider.entry.aliases)):
            return provider
    return None


def config_place(config: Config) -> str:
    """How messages name the configuration file, whether it is there or not."""
    return str(config.path) if config.path else "~/.nanobot/config.json"


def _configured(
    entry: ProviderEntry,
    name: str,
    settings: ProviderSettings,
    env: Mapping[str, str],
    place: str,
) -> Configured:
    api_key, key_source = (settings.api_key or "").strip(), f"providers.{name}.apiKey"
    base_url = settings.api_base or ""
    if not api_key:
        variable = next((key for key in entry.env_keys if env.get(key, "").strip()), "")
        api_key, key_source = env.get(variable, "").strip(), variable
        if not base_url:
            # A base from the environment belongs to the key beside it: neither goes to the other's service.
            base_url = next((env[base] for base in entry.env_bases if env.get(base)), "")
    from_env = bool(api_key) and key_source in entry.env_keys
    missing = ""
    if entry.needs_key and not api_key:
        variables = " or ".join(entry.env_keys)
        missing = f"set {variables} in the environment, or providers.{name}.apiKey in {place}"
    elif not (base_url or entry.base_url or entry.kind == "local"):
        missing = f"set providers.{name}.apiBase in {place}"
    given = bool(settings.api_base) if entry.local else bool(api_key or settings.api_base)
    if from_env and not entry.env_configures:
        given = bool(settings.api_base)
    return Configured(
        entry=entry,
        settings=settings,
        api_key=api_key,
        key_source=key_source,
        base_url=base_url or entry.base_url,
        ready=given and not missing,
        missing=missing,
    )
