"""From settings and a caller's wish to one model that can be asked: provider, endpoint, limits."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct, structs

from nanobot._frames import forgetful
from nanobot.config import (
    DIRECT_PRESET,
    Config,
    FallbackModel,
    ModelPreset,
    ProviderSettings,
    expanded,
)
from nanobot.errors import ConfigError, UnknownPreset, UsageError

from ._catalog import EMBEDDED_MODEL, Kind, PromptProfile, ProviderEntry
from ._configured import Configured, config_place, configured_providers, find_provider
from ._endpoint import Endpoint, Timeouts
from ._known_models import KnownModel, accepts_temperature, known_model
from ._match import Match, match_provider, wire_model
from ._rate_gate import RateLimits

__all__ = [
    "DEFAULT_MODEL",
    "ConflictingSelectors",
    "ModelSelection",
    "select_model",
    "select_model_of",
]

DEFAULT_MODEL = "anthropic/claude-opus-4-5"
"""What is used when nobody names a model and its provider has a key."""

# Assumed of models that the catalog does not know; most current ones have at least this much.
_USUAL_CONTEXT_WINDOW = 200_000

_EMBEDDED_NOTICE = (
    f"No model is configured, so a small embedded model answers ({EMBEDDED_MODEL}, on this machine, "
    "without tools). Set ANTHROPIC_API_KEY, OPENAI_API_KEY or another provider's key, or run "
    "`nanobot onboard`."
)


class ConflictingSelectors(UsageError, ValueError):
    """Both a model and a preset were asked for."""

    def __init__(self) -> None:
        super().__init__("model and model_preset are mutually exclusive")


class ModelSelection(Struct, frozen=True, kw_only=True):
    """One model, ready to be asked.

    Attributes:
      provider_name: As in the catalog or the configuration.
      kind: The wire format to speak.
      endpoint: Where, with the key.
      key_source: Where the key is from: a config path, a variable's name, or "".
      model: The model's name on the wire.
      display_model: The model as the user configured it.
      preset: The preset it is from, or None.
      max_tokens: Most tokens of one answer: as configured, but no more than the model can and half its window.
      context_window_tokens: What is configured, else what is known of the model, else 200,000; the smallest one of it and
        its fallbacks, so that what is shown fits whoever answers.
      temperature: None leaves it to the service, also where the model refuses any.
      reasoning_effort: None leaves it to the service, also where the model does not reason.
      prompt_profile: How much of a system prompt the model can take.
      offers_tools: Whether it can be offered tools.
      enforces_schemas: Whether it, and each of its fallbacks, can be held to a JSON schema.
      notice: A sentence to show to the user, or "".
      fallbacks: The models to ask, in this order, when this one fails.
    """

    provider_name: str
    kind: Kind
    endpoint: Endpoint
    key_source: str
    model: str
    display_model: str
    preset: str | None
    max_tokens: int
    context_window_tokens: int
    temperature: float | None
    reasoning_effort: str | None
    prompt_profile: PromptProfile
    offers_tools: bool
    enforces_schemas: bool = False
    notice: str = ""
    fallbacks: tuple[ModelSelection, ...] = ()


@forgetful
def select_model(
    config: Config,
    *,
    model: str | None = None,
    model_preset: str | None = None,
    env: Mapping[str, str],
) -> ModelSelection:
    """Decide which model to ask, and how. Pure: reads nothing but its arguments.

    `model` drops the configured preset and provider, and keeps the configured limits; `model_preset` takes a
    preset with all it says, where `default` stands for the model fields of `agents.defaults`. Without either,
    the configured preset counts, then the configured model. If there is none, the default model is used when
    its provider has a key, or else the usual model of the only provider that has one; without a configuration
    file and any key, the embedded model.

    `agents.defaults.fallbackModels` stand behind the configured model and behind presets, but not behind a model that was
    asked for by name: whoever names one means it.

    Raises:
      ConflictingSelectors: Both were given.
      UsageError: The model's name is empty.
      UnknownPreset: There is no such preset.
      ConfigError: No provider can be used, or several could; the text says what to set, and where.
    """
    if model is not None and model_preset is not None:
        raise ConflictingSelectors
    configured = configured_providers(config, env)
    wish, preset, notice = _wish(config, model, model_preset, configured)
    match = match_provider(wish.model, provider=wish.provider, configured=configured)
    selection = _selection(config, wish, preset, match, notice)
    wanted = config.agents.defaults.fallback_models
    return (
        selection
        if model is not None or not wanted
        else _with_fallbacks(selection, config, configured)
    )


@forgetful
def select_model_of(
    provider_name: str,
    config: Config,
    *,
    model: str | None = None,
    model_preset: str | None = None,
    env: Mapping[str, str],
) -> ModelSelection:
    """Decide what to ask a provider that the caller brings, for which no configured one has to be usable. Pure.

    Model and limits are those that `select_model` finds. Where it finds none, for want of a key say, the model is the one
    that was named, called as the provider in its name would call it, else the default model. What is known of a configured
    service does not hold for this one.

    Raises:
      ConflictingSelectors, UsageError, UnknownPreset: As `select_model`.
      ConfigError: Nothing is left of the model's name.
    """
    selection = None
    try:
        selection = select_model(config, model=model, model_preset=model_preset, env=env)
    except ConfigError:  # of services that are not asked
        pass
    if selection is None or selection.notice:  # the embedded model is for those who have no other
        selection = _named_only(provider_name, config, model, model_preset, env)
    return structs.replace(
        selection, prompt_profile="full", offers_tools=True, enforces_schemas=False
    )


def _named_only(
    provider_name: str,
    config: Config,
    model: str | None,
    model_preset: str | None,
    env: Mapping[str, str],
) -> ModelSelection:
    defaults = config.agents.defaults
    named = structs.replace(defaults, model=defaults.model or DEFAULT_MODEL)
    agents = structs.replace(config.agents, defaults=named)
    wish, preset, _ = _wish(structs.replace(config, agents=agents), model, model_preset, ())
    owner = wish.model.partition("/")[0] if wish.provider == "auto" else wish.provider
    found = find_provider(owner, configured_providers(config, env))
    name = wish.model if found is None else wire_model(found.entry, wish.model)
    known = known_model(name)
    window, most = _limits(wish, known)
    return ModelSelection(
        provider_name=provider_name,
        kind="openai_chat",
        endpoint=Endpoint(name=provider_name, base_url=""),
        key_source="",
        model=name,
        display_model=wish.model,
        preset=preset,
        max_tokens=most,
        context_window_tokens=window,
        temperature=wish.temperature if accepts_temperature(name) else None,
        reasoning_effort=_effort(wish, known),
        prompt_profile="full",
        offers_tools=True,
    )


def _wish(
    config: Config,
    model: str | None,
    model_preset: str | None,
    configured: tuple[Configured, ...],
) -> tuple[ModelPreset, str | None, str]:
    """What is asked for, written as a preset; the name of the preset it is from; a notice."""
    defaults = config.agents.defaults
    direct = ModelPreset(
        model=defaults.model or DEFAULT_MODEL,
        provider=defaults.provider,
        max_tokens=defaults.max_tokens,
        context_window_tokens=defaults.context_window_tokens,
        temperature=defaults.temperature,
        reasoning_effort=defaults.reasoning_effort,
    )
    if model is not None:
        if not model.strip():
            raise UsageError("model is empty; name a model such as openai/gpt-4.1")
        # The configured window was meant for another model; it counts where nothing better is known.
        known = known_model(model)
        window = known.context_window if known else direct.context_window_tokens
        override = structs.replace(
            direct, model=model.strip(), provider="auto", context_window_tokens=window
        )
        return override, None, ""
    name = model_preset if model_preset is not None else defaults.model_preset or DIRECT_PRESET
    if name != DIRECT_PRESET:
        if name not in config.model_presets:
            raise UnknownPreset(name, (DIRECT_PRESET, *config.model_presets))
        return config.model_presets[name], name, ""
    if defaults.model is not None:
        return direct, None, ""
    chosen, notice = _unasked(config, configured)
    return structs.replace(direct, model=chosen), None, notice


def _with_fallbacks(
    selection: ModelSelection, config: Config, configured: tuple[Configured, ...]
) -> ModelSelection:
    """The selection with the configured fallbacks behind it; one that is the same model is left out."""
    fallbacks: list[ModelSelection] = []
    asked = {(selection.provider_name, selection.model)}
    for index, fallback in enumerate(config.agents.defaults.fallback_models):
        wish, preset = _fallback_wish(config, fallback)
        try:
            match = match_provider(wish.model, provider=wish.provider, configured=configured)
            found = _selection(config, wish, preset, match, "")
        except ConfigError as error:
            raise ConfigError(f"agents.defaults.fallbackModels.{index}: {error}") from None
        if (found.provider_name, found.model) not in asked:
            asked.add((found.provider_name, found.model))
            fallbacks.append(found)
    chain = (selection, *fallbacks)
    return structs.replace(
        selection,
        fallbacks=tuple(fallbacks),
        context_window_tokens=min(one.context_window_tokens for one in chain),
        enforces_schemas=all(one.enforces_schemas for one in chain),
    )


def _fallback_wish(config: Config, fallback: FallbackModel | str) -> tuple[ModelPreset, str | None]:
    if isinstance(fallback, str):
        wish, preset, _ = _wish(config, None, fallback, ())
        return wish, preset
    defaults = config.agents.defaults
    known = known_model(fallback.model)
    window = fallback.context_window_tokens or (known.context_window if known else None)
    wish = ModelPreset(
        model=fallback.model,
        provider=fallback.provider,
        max_tokens=fallback.max_tokens or defaults.max_tokens,
        context_window_tokens=window or defaults.context_window_tokens,
        temperature=defaults.temperature if fallback.temperature is None else fallback.temperature,
        reasoning_effort=fallback.reasoning_effort,
    )
    return wish, None


def _unasked(config: Config, configured: tuple[Configured, ...]) -> tuple[str, str]:
    """The model to use when nobody named one, and a notice."""
    place = config_place(config)
    provider = config.agents.defaults.provider
    if provider != "auto":
        named = find_provider(provider, configured)
        # A provider that is unknown or lacks something is explained by the match that follows.
        return (_usual_model(named, place) if named else DEFAULT_MODEL), ""
    ready = [one for one in configured if one.ready]
    if not ready and config.source is None:
        return f"local/{EMBEDDED_MODEL}", _EMBEDDED_NOTICE
    if not ready:
        raise ConfigError(
            "No provider is configured and no model is chosen: set the key of one in the environment, "
            f"such as ANTHROPIC_API_KEY or OPENAI_API_KEY, or as providers.<name>.apiKey in {place}."
        )
    if any(one.name == "anthropic" for one in ready):
        return DEFAULT_MODEL, ""
    if len(ready) > 1:
        names = ", ".join(one.name for one in ready)
        raise ConfigError(
            f"Several providers have what they need ({names}) and no model is chosen: "
            f"set agents.defaults.model in {place}, such as {_example(ready)}."
        )
    return _usual_model(ready[0], place), ""


def _usual_model(provider: Configured, place: str) -> str:
    usual = provider.entry.default_model
    if usual is None:
        raise ConfigError(
            f"No model is chosen for {provider.name}: set agents.defaults.model in {place}, "
            f"such as {provider.name}/<model>."
        )
    return usual if usual.startswith(f"{provider.name}/") else f"{provider.name}/{usual}"


def _example(ready: list[Configured]) -> str:
    for provider in ready:
        if provider.entry.default_model:
            return _usual_model(provider, "")
    return f"{ready[0].name}/<model>"


def _selection(
    config: Config, wish: ModelPreset, preset: str | None, match: Match, notice: str
) -> ModelSelection:
    provider, entry = match.provider, match.provider.entry
    known = known_model(match.model)
    if entry.kind == "local" and match.model != entry.default_model:
        raise ConfigError(
            f"The embedded provider has one model, local/{entry.default_model}; {wish.model!r} is "
            "not it. To run others on this machine, use ollama, lm_studio or vllm."
        )
    # The embedded model's server is started with no more than the model has.
    window, most = _limits(wish, known, at_most=known if entry.kind == "local" else None)
    return ModelSelection(
        provider_name=provider.name,
        kind=_kind(entry, provider.settings, known),
        endpoint=_endpoint(provider, config_place(config)),
        key_source=provider.key_source if provider.api_key else "",
        model=match.model,
        display_model=wish.model,
        preset=preset,
        max_tokens=most,
        context_window_tokens=window,
        temperature=wish.temperature if accepts_temperature(match.model) else None,
        reasoning_effort=_effort(wish, known),
        prompt_profile=entry.prompt_profile,
        offers_tools=entry.offers_tools,
        enforces_schemas=_enforces_schemas(entry, known),
        notice=notice,
    )


def _limits(
    wish: ModelPreset, known: KnownModel | None, at_most: KnownModel | None = None
) -> tuple[int, int]:
    """The context window, and the most tokens of one answer."""
    window = wish.context_window_tokens or (
        known.context_window if known else _USUAL_CONTEXT_WINDOW
    )
    if at_most is not None:
        window = min(window, at_most.context_window)
    most = min(wish.max_tokens, max(1, window // 2))
    if known and known.max_output:
        most = min(most, known.max_output)
    return window, most


def _effort(wish: ModelPreset, known: KnownModel | None) -> str | None:
    reasons = known is None or known.reasoning != "none"
    return wish.reasoning_effort if reasons else None


def _kind(entry: ProviderEntry, settings: ProviderSettings, known: KnownModel | None) -> Kind:
    if entry.kind != "openai_chat":
        return entry.kind
    match settings.api_type:
        case "responses":
            return "openai_responses"
        case "chat_completions":
            return "openai_chat"
    # Other services speak one format for all models; only the vendor and Azure distinguish.
    if known and known.wire and entry.name in (known.vendor, f"azure_{known.vendor}"):
        return known.wire
    return "openai_chat"


def _enforces_schemas(entry: ProviderEntry, known: KnownModel | None) -> bool:
    if entry.enforces_schemas == "known":
        return known is not None and known.enforces_schema
    return entry.enforces_schemas == "all"


def _endpoint(provider: Configured, place: str) -> Endpoint:
    settings = provider.settings
    if not (provider.api_key.isascii() and provider.api_key.isprintable()):
        raise ConfigError(
            f"The key of {provider.name} ({provider.key_source}) holds characters that no key has; "
            "copy it again."
        )
    for name, value in (settings.extra_headers or {}).items():
        if not (name.isascii() and name.isprintable() and value.isprintable()):
            raise ConfigError(
                f"providers.{provider.name}.extraHeaders in {place} holds characters that cannot be sent."
            )
    if settings.proxy and settings.proxy.startswith("socks"):  # other providers can still be used
        raise ConfigError(
            f"providers.{provider.name}.proxy in {place} is a SOCKS proxy, and models are asked through "
            "HTTP proxies only: most programs that offer SOCKS offer an HTTP proxy too, often on the next "
            "port; give its address, such as http://127.0.0.1:7890."
        )
    timeouts = settings.timeouts
    return Endpoint(
        name=provider.name,
        base_url=_base_url(provider, place),
        api_key=provider.api_key,
        extra_headers=dict(settings.extra_headers or {}),
        extra_query=dict(settings.extra_query or {}),
        extra_body=dict(settings.extra_body or {}),
        proxy=settings.proxy or None,
        ca_file=str(expanded(settings.ca_file)) if settings.ca_file else None,
        limits=RateLimits(
            max_concurrent_requests=settings.max_concurrent_requests,
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
        ),
        timeouts=Timeouts(
            connect_s=timeouts.connect_s,
            first_token_s=timeouts.first_token_s,
            between_tokens_s=timeouts.between_tokens_s,
            request_s=timeouts.request_s,
        ),
        quirks=provider.entry.quirks,
    )


def _base_url(provider: Configured, place: str) -> str:
    """Complete a base URL: no trailing slash, and the version path where a user left it out."""
    entry = provider.entry
    base = provider.base_url.strip().rstrip("/")
    if entry.kind == "local":
        return ""
    try:
        parts = urlsplit(base)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable:
        raise ConfigError(
            f"The base URL of {provider.name} is no http(s) URL: correct "
            f"providers.{provider.name}.apiBase in {place}"
            + (f", or {' / '.join(entry.env_bases)}." if entry.env_bases else ".")
        )
    if entry.kind == "anthropic":
        # Users of Anthropic's own clients write the base without the version.
        return base if base.endswith("/v1") else f"{base}/v1"
    if parts.path:
        return base
    usual = entry.api_path or urlsplit(entry.base_url).path
    return base + usual
