"""Facts about well-known models, as data: limits, reasoning, images, price.

What is not known for sure is None, never a guess. Prices are the vendor's own list prices; another service that
hosts the model has its own. Where a vendor charges more at busy hours, that price counts.
Source: the vendors' model and pricing pages, as of 27 November 2026.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Literal, TypeAlias

from msgspec import Struct

from ._catalog import EMBEDDED_MODEL, Kind
from ._match import model_words

__all__ = [
    "KnownModel",
    "Price",
    "ReasoningStyle",
    "accepts_temperature",
    "known_model",
    "price_of",
    "reasons_always",
]

ReasoningStyle: TypeAlias = Literal["none", "effort", "budget", "adaptive", "always"]
"""How reasoning is asked for.

`none`: not at all · `effort`: by a word · `budget`: by a number of tokens · `adaptive`: the model decides, and
a word guides it · `always`: it cannot be asked for or switched off.
"""


class Price(Struct, frozen=True, kw_only=True):
    """US dollars per million tokens, for requests whose prompt has at least `from_prompt_tokens`.

    None means that the vendor does not charge for it apart, or that it is not known.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    from_prompt_tokens: int = 0


class KnownModel(Struct, frozen=True, kw_only=True):
    """What is known of one model.

    Attributes:
      name: Without vendor, date and "-latest".
      vendor: Who makes it: a name of the catalog, where the vendor serves it too.
      context_window: Tokens of prompt and answer together.
      max_output: Most tokens of one answer; None when the vendor names no number.
      reasoning: How reasoning is asked for; None when not known.
      image_input: Whether it sees images; None when not known.
      accepts_temperature: False when a temperature makes requests fail; the safe value when not known.
      reasons_always: Whether a request that switches reasoning off fails; then the least of it is asked for.
      wire: The only format in which its vendor serves it fully, where that is not the vendor's usual one.
      enforces_schema: Whether its vendor holds its answers to a JSON schema; False when not known.
      prices: By rising prompt length; empty when not known.
    """

    name: str
    vendor: str
    context_window: int
    max_output: int | None = None
    reasoning: ReasoningStyle | None = None
    image_input: bool | None = None
    accepts_temperature: bool = True
    reasons_always: bool = False
    wire: Kind | None = None
    enforces_schema: bool = False
    prices: tuple[Price, ...] = ()


def known_model(model: str) -> KnownModel | None:
    """Look a model up by any usual spelling: with a vendor, a date, "-latest" or ":free"; dots and dashes alike."""
    return _BY_KEY.get(_key(model))


def accepts_temperature(model: str) -> bool:
    """Whether a request may say a temperature. A Claude or GPT that is not known is taken for a new one, which refuses any."""
    known = known_model(model)
    return _is_of_old_ways(model) if known is None else known.accepts_temperature


def reasons_always(model: str) -> bool:
    """Whether a request may not switch reasoning off. A Claude that is not known is taken for a new one, which refuses."""
    known = known_model(model)
    return "claude" in model_words(model) if known is None else known.reasons_always


def _is_of_old_ways(model: str) -> bool:
    words = model_words(model)
    return not words & {"claude", "gpt"} or "oss" in words


def price_of(provider: str, model: str, *, prompt_tokens: int) -> Price | None:
    """The list price of a request to the model's own vendor; None for other services and unknown prices."""
    known = known_model(model)
    if known is None or known.vendor != provider:
        return None
    fitting = [price for price in known.prices if prompt_tokens >= price.from_prompt_tokens]
    return fitting[-1] if fitting else None


_DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


def _key(model: str) -> str:
    name = model.rsplit("/", 1)[-1].split(":", 1)[0].lower().replace(".", "-")
    return _DATE.sub("", name.removesuffix("-latest"))


def _priced(
    input: float, output: float, cached: float | None = None, write: float | None = None
) -> tuple[Price, ...]:
    return (Price(input=input, output=output, cached_input=cached, cache_write=write),)


def _long(above: int, *rates: float, output_factor: float = 1.5) -> tuple[Price, ...]:
    """Rates for input, output, cached input and cache writes, and what they become past a prompt length."""
    (short,) = _priced(*rates)
    doubled = Price(
        input=short.input * 2,
        output=short.output * output_factor,
        cached_input=None if short.cached_input is None else short.cached_input * 2,
        cache_write=None if short.cache_write is None else short.cache_write * 2,
        from_prompt_tokens=above + 1,
    )
    return (short, doubled)


def _claude(
    name: str,
    context: int,
    output: int,
    reasoning: ReasoningStyle,
    *rates: float,
    temperature: bool = True,
    schemas: bool = True,
    always: bool = False,
) -> KnownModel:
    return KnownModel(
        name=name,
        vendor="anthropic",
        context_window=context,
        max_output=output,
        reasoning=reasoning,
        image_input=True,
        accepts_temperature=temperature,
        enforces_schema=schemas,
        reasons_always=always,
        prices=_priced(*rates),
    )


def _gpt(
    name: str,
    context: int,
    output: int,
    prices: tuple[Price, ...],
    *,
    reasoning: bool = True,
    images: bool = True,
    schemas: bool = True,
    always: bool = False,
    wire: Kind | None = None,
) -> KnownModel:
    return KnownModel(
        name=name,
        vendor="openai",
        context_window=context,
        max_output=output,
        reasoning="effort" if reasoning else "none",
        image_input=images,
        accepts_temperature=not reasoning,
        reasons_always=always,
        wire=wire,
        enforces_schema=schemas,
        prices=prices,
    )


_MODELS = (
    # Anthropic. Schemas are enforced from the 4.5 models on. From Opus 4.7 and Sonnet 5 on, sampling parameters are refused;
    # Fable and Opus 5.5 refuse to have their thinking switched off.
    _claude(
        *("claude-fable-5-2", 1_000_000, 128_000, "adaptive", 8, 40, 0.2, 10),
        temperature=False,
        always=True,
    ),
    _claude(
        *("claude-fable-5-1", 1_000_000, 128_000, "adaptive", 10, 50, 0.25, 12.5),
        temperature=False,
        always=True,
    ),
    _claude(
        *("claude-opus-5-5", 1_000_000, 128_000, "adaptive", 4, 20, 0.2, 5),
        temperature=False,
        always=True,
    ),
    _claude("claude-opus-5", 1_000_000, 128_000, "adaptive", 5, 25, 0.5, 6.25, temperature=False),
    _claude("claude-opus-4-8", 1_000_000, 128_000, "adaptive", 5, 25, 0.5, 6.25, temperature=False),
    _claude("claude-opus-4-7", 1_000_000, 128_000, "adaptive", 5, 25, 0.5, 6.25, temperature=False),
    _claude("claude-opus-4-6", 1_000_000, 128_000, "adaptive", 5, 25, 0.5, 6.25),
    _claude("claude-opus-4-5", 200_000, 64_000, "budget", 5, 25, 0.5, 6.25),
    _claude("claude-opus-4-1", 200_000, 32_000, "budget", 15, 75, 1.5, 18.75, schemas=False),
    _claude("claude-opus-4", 200_000, 32_000, "budget", 15, 75, 1.5, 18.75, schemas=False),
    _claude("claude-opus-4-0", 200_000, 32_000, "budget", 15, 75, 1.5, 18.75, schemas=False),
    _claude(
        "claude-sonnet-5-5", 1_000_000, 128_000, "adaptive", 2, 10, 0.1, 2.5, temperature=False
    ),
    _claude("claude-sonnet-5", 1_000_000, 128_000, "adaptive", 2, 10, 0.2, 2.5, temperature=False),
    _claude("claude-sonnet-4-6", 1_000_000, 64_000, "adaptive", 3, 15, 0.3, 3.75),
    _claude("claude-sonnet-4-5", 200_000, 64_000, "budget", 3, 15, 0.3, 3.75),
    _claude("claude-sonnet-4", 200_000, 64_000, "budget", 3, 15, 0.3, 3.75, schemas=False),
    _claude("claude-sonnet-4-0", 200_000, 64_000, "budget", 3, 15, 0.3, 3.75, schemas=False),
    _claude("claude-3-7-sonnet", 200_000, 64_000, "budget", 3, 15, 0.3, 3.75, schemas=False),
    _claude("claude-haiku-4-5", 200_000, 64_000, "budget", 1, 5, 0.1, 1.25),
    _claude("claude-3-5-haiku", 200_000, 8192, "none", 0.8, 4, 0.08, 1, schemas=False),
    KnownModel(
        name="claude-haiku-5-5",
        vendor="anthropic",
        context_window=1_000_000,
        max_output=128_000,
        reasoning="adaptive",
        image_input=True,
        accepts_temperature=False,
        enforces_schema=True,
        prices=(
            Price(input=0.1, output=0.5, cached_input=0.01, cache_write=0.125),
            Price(
                input=0.5,
                output=2.5,
                cached_input=0.05,
                cache_write=0.625,
                from_prompt_tokens=100_001,
            ),
        ),
    ),
    # OpenAI. From GPT-6 on, chat completions call functions only with reasoning switched off, if at all.
    _gpt(
        *("gpt-6-astra", 1_050_000, 128_000, _long(272_000, 10, 50, 1, 12.5)),
        wire="openai_responses",
    ),
    _gpt(
        *("gpt-6.2-sol", 1_050_000, 128_000, _long(272_000, 2, 10, 0.1, 2.5)),
        always=True,
        wire="openai_responses",
    ),
    _gpt(
        "gpt-6.1-sol", 1_050_000, 128_000, _long(272_000, 2, 10, 0.1, 2.5), wire="openai_responses"
    ),
    _gpt("gpt-6-sol", 1_050_000, 128_000, _long(272_000, 2, 10, 0.2, 2.5), wire="openai_responses"),
    *(
        _gpt(name, 1_050_000, 128_000, _long(272_000, 4, 20, 0.4, 5))
        for name in ("gpt-5.6", "gpt-5.6-sol")  # the same model
    ),
    _gpt("gpt-5.5", 1_050_000, 128_000, _long(272_000, 5, 30, 0.5)),
    _gpt("gpt-5.4", 1_050_000, 128_000, _long(272_000, 2.5, 15, 0.25)),
    _gpt("gpt-5.4-mini", 400_000, 128_000, _priced(0.75, 4.5, 0.075)),
    _gpt("gpt-5.4-nano", 400_000, 128_000, _priced(0.2, 1.25, 0.02)),
    _gpt("gpt-5.2", 400_000, 128_000, _priced(1.75, 14, 0.175)),
    _gpt("gpt-5.1", 400_000, 128_000, _priced(1.25, 10, 0.125)),
    _gpt("gpt-5", 400_000, 128_000, _priced(1.25, 10, 0.125)),
    _gpt("gpt-5-mini", 400_000, 128_000, _priced(0.25, 2, 0.025)),
    _gpt("gpt-5-nano", 400_000, 128_000, _priced(0.05, 0.4, 0.005)),
    _gpt("o4-mini", 200_000, 100_000, _priced(1.1, 4.4, 0.275)),
    _gpt("o3", 200_000, 100_000, _priced(2, 8, 0.5)),
    _gpt("o3-mini", 200_000, 100_000, _priced(1.1, 4.4, 0.55), images=False),
    _gpt("o1", 200_000, 100_000, _priced(15, 60, 7.5)),
    _gpt("gpt-4.1", 1_047_576, 32_768, _priced(2, 8, 0.5), reasoning=False),
    _gpt("gpt-4.1-mini", 1_047_576, 32_768, _priced(0.4, 1.6, 0.1), reasoning=False),
    _gpt("gpt-4.1-nano", 1_047_576, 32_768, _priced(0.1, 0.4, 0.025), reasoning=False),
    _gpt("gpt-4o", 128_000, 16_384, _priced(2.5, 10, 1.25), reasoning=False),
    _gpt("gpt-4o-mini", 128_000, 16_384, _priced(0.15, 0.6, 0.075), reasoning=False),
    _gpt("gpt-4-turbo", 128_000, 4096, _priced(10, 30), reasoning=False, schemas=False),
    _gpt(
        "gpt-3.5-turbo",
        16_385,
        4096,
        _priced(0.5, 1.5),
        reasoning=False,
        images=False,
        schemas=False,
    ),
    *(
        # Open weights: OpenAI itself does not serve them, so they have no price of their vendor's.
        KnownModel(
            name=name,
            vendor="openai",
            context_window=131_072,
            reasoning="effort",
            image_input=False,
        )
        for name in ("gpt-oss-120b", "gpt-oss-20b")
    ),
    # Google
    KnownModel(
        name="gemini-2.5-pro",
        vendor="gemini",
        context_window=1_048_576,
        max_output=65_536,
        reasoning="effort",
        image_input=True,
        prices=_long(200_000, 1.25, 10, 0.125),
    ),
    KnownModel(
        name="gemini-2.5-flash",
        vendor="gemini",
        context_window=1_048_576,
        max_output=65_536,
        reasoning="effort",
        image_input=True,
        prices=_priced(0.3, 2.5, 0.03),
    ),
    KnownModel(
        name="gemini-2.5-flash-lite",
        vendor="gemini",
        context_window=1_048_576,
        max_output=65_536,
        reasoning="effort",
        image_input=True,
        prices=_priced(0.1, 0.4, 0.01),
    ),
    KnownModel(
        name="gemini-3-pro-preview",
        vendor="gemini",
        context_window=1_048_576,
        max_output=65_536,
        reasoning="effort",
        image_input=True,
        prices=_long(200_000, 2, 12, 0.2),
    ),
    *(
        KnownModel(
            name=name,
            vendor="gemini",
            context_window=1_048_576,
            max_output=65_536,
            reasoning="effort",
            image_input=True,
            prices=prices,
        )
        for name, prices in (
            ("gemini-3.8-flash", ()),  # at half its price until the end of 2026
            ("gemini-3.7-flash", ()),
            ("gemini-3.1-pro-preview", ()),
        )
    ),
    KnownModel(
        name="gemini-flash",
        vendor="gemini",
        context_window=1_000_000,
        reasoning="effort",
        image_input=True,
    ),
    # DeepSeek
    KnownModel(
        name="deepseek-v4-pro",
        vendor="deepseek",
        context_window=1_000_000,
        max_output=384_000,
        image_input=False,
        prices=_priced(1.32, 3.96, 0.044),
    ),
    *(
        KnownModel(
            name=name,
            vendor="deepseek",
            context_window=1_000_000,
            max_output=384_000,
            image_input=True,
            prices=_priced(0.3, 1.2, 0.006),
        )
        for name in ("deepseek-flash", "deepseek-v4-flash")  # the second is the first's older name
    ),
    # Retired by their vendor in July 2026; others still serve them.
    KnownModel(name="deepseek-chat", vendor="deepseek", context_window=128_000, image_input=False),
    KnownModel(
        name="deepseek-reasoner",
        vendor="deepseek",
        context_window=128_000,
        reasoning="always",
        image_input=False,
    ),
    # Mistral
    KnownModel(
        name="mistral-large-2512",
        vendor="mistral",
        context_window=262_144,
        reasoning="none",
        image_input=True,
        prices=_priced(0.5, 1.5, 0.05),
    ),
    KnownModel(
        name="codestral",
        vendor="mistral",
        context_window=256_000,
        reasoning="none",
        image_input=False,
        prices=_priced(0.3, 0.9),
    ),
    KnownModel(
        name="devstral-2512",
        vendor="mistral",
        context_window=262_144,
        reasoning="none",
        prices=_priced(0.4, 2, 0.04),
    ),
    # xAI
    KnownModel(
        name="grok-4.7",
        vendor="xai",
        context_window=500_000,
        reasoning="effort",
        image_input=True,
        prices=_long(199_999, 2, 6, 0.5, output_factor=2.0),
    ),
    KnownModel(
        name="grok-4.5",
        vendor="xai",
        context_window=500_000,
        reasoning="effort",
        image_input=True,
        prices=_long(199_999, 2, 6, 0.5, output_factor=2.0),
    ),
    KnownModel(
        name="grok-4",
        vendor="xai",
        context_window=256_000,
        reasoning="always",
        image_input=True,
        prices=_priced(3, 15, 0.75),
    ),
    KnownModel(
        name="grok-code-fast-1",
        vendor="xai",
        context_window=256_000,
        reasoning="always",
        image_input=False,
        prices=_priced(0.2, 1.5, 0.02),
    ),
    KnownModel(
        name="grok-3",
        vendor="xai",
        context_window=131_072,
        reasoning="none",
        image_input=False,
        prices=_priced(3, 15, 0.75),
    ),
    KnownModel(
        name="grok-3-mini",
        vendor="xai",
        context_window=131_072,
        reasoning="effort",
        image_input=False,
        prices=_priced(0.3, 0.5, 0.075),
    ),
    # Moonshot
    KnownModel(
        name="kimi-k3",
        vendor="moonshot",
        context_window=1_048_576,
        prices=_priced(3, 15, 0.3, 3),
        accepts_temperature=False,
    ),
    KnownModel(
        name="kimi-k2.6",
        vendor="moonshot",
        context_window=262_144,
        image_input=True,
        accepts_temperature=False,
        prices=_priced(0.95, 4, 0.16),
    ),
    KnownModel(
        name="kimi-k2.5",
        vendor="moonshot",
        context_window=262_144,
        image_input=True,
        accepts_temperature=False,
        prices=_priced(0.6, 3, 0.1),
    ),
    KnownModel(
        name="kimi-k2-thinking",
        vendor="moonshot",
        context_window=262_144,
        reasoning="always",
        image_input=False,
        prices=_priced(0.6, 2.5, 0.15),
    ),
    # Zhipu
    KnownModel(name="glm-5.2", vendor="zhipu", context_window=1_000_000),
    KnownModel(name="glm-5", vendor="zhipu", context_window=200_000),
    KnownModel(
        name="glm-4.7",
        vendor="zhipu",
        context_window=200_000,
        max_output=128_000,
        image_input=False,
    ),
    KnownModel(
        name="glm-4.6",
        vendor="zhipu",
        context_window=200_000,
        max_output=128_000,
        image_input=False,
    ),
    # MiniMax
    KnownModel(
        name="minimax-m2.7",
        vendor="minimax",
        context_window=204_800,
        reasoning="always",
        image_input=False,
        prices=_priced(0.3, 1.2, 0.06, 0.375),
    ),
    KnownModel(
        name="minimax-m2",
        vendor="minimax",
        context_window=204_800,
        reasoning="always",
        image_input=False,
        prices=_priced(0.3, 1.2, 0.03, 0.375),
    ),
    # Meta's open weights
    *(
        KnownModel(
            name=name, vendor="meta", context_window=131_072, reasoning="none", image_input=False
        )
        for name in (
            "llama-3.1-8b-instruct",
            "llama-3.1-8b-instant",
            "llama-3.3-70b-instruct",
            "llama-3.3-70b-versatile",
        )
    ),
    # The model that nanobot brings along; it loses the thread long before its window is full
    KnownModel(
        name=EMBEDDED_MODEL,
        vendor="local",
        context_window=8192,
        max_output=1024,
        reasoning="none",
        image_input=False,
        prices=_priced(0, 0),
    ),
)

_BY_KEY = MappingProxyType({_key(model.name): model for model in _MODELS})
