"""The catalog: consistent data, with every provider and model that the docs promise."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import pytest

from nanobot.config import provider_key
from nanobot.providers._catalog import (
    CATALOG,
    EMBEDDED_MODEL,
    UNSUPPORTED,
    ProviderEntry,
    custom_entry,
)
from nanobot.providers._known_models import (
    _BY_KEY,
    _MODELS,
    accepts_temperature,
    known_model,
    price_of,
    reasons_always,
)
from nanobot.providers._match import model_words

ENTRIES = [pytest.param(entry, id=entry.name) for entry in CATALOG.values()]
QUIRKS = {
    *("max_completion_tokens", "no_stream_usage", "no_think_tags"),
    *("printed_tool_calls", "tool_ids_40", "tool_ids_9"),
}


def test_everybody_who_was_promised_is_there() -> None:
    promised = (
        "openai anthropic openrouter azure_openai deepseek gemini groq mistral moonshot zhipu dashscope "
        "minimax nvidia huggingface together xai ollama lm_studio vllm local"
    )
    assert set(promised.split()) <= set(CATALOG)
    assert not set(UNSUPPORTED) & set(CATALOG)


def test_no_two_providers_answer_to_one_name() -> None:
    names = Counter(
        provider_key(name)
        for entry in CATALOG.values()
        for name in {provider_key(name) for name in (entry.name, *entry.aliases)}
    )
    names.update(map(provider_key, UNSUPPORTED))
    assert [name for name, uses in names.items() if uses > 1] == []
    assert provider_key("auto") not in names


def test_a_variable_configures_one_provider_at_most() -> None:
    uses = Counter(
        variable
        for entry in CATALOG.values()
        if entry.env_configures
        for variable in entry.env_keys
    )
    assert [variable for variable, count in uses.items() if count > 1] == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_consistent(entry: ProviderEntry) -> None:
    assert entry.name == entry.name.lower()
    assert entry.label
    if entry.base_url:
        parts = urlsplit(entry.base_url)
        assert parts.scheme == ("http" if entry.local else "https")
        assert not entry.base_url.endswith("/")
        assert entry.kind != "anthropic" or entry.base_url.endswith("/v1")
    assert entry.needs_key == (not entry.local and entry.kind != "local")
    assert bool(entry.env_keys) or not entry.needs_key
    # A whole word is compared with whole words, so it has to be one.
    for word in entry.words | entry.not_words:
        assert word in model_words(word)
    assert entry.closed_words <= entry.words
    assert entry.quirks <= QUIRKS
    if entry.local:
        assert not entry.env_configures
        assert entry.default_model is None


def test_the_embedded_model_is_treated_as_what_it_is() -> None:
    entry = CATALOG["local"]
    assert entry.kind == "local"
    assert entry.prompt_profile == "compact"
    assert not entry.offers_tools
    known = known_model(EMBEDDED_MODEL)
    assert known is not None
    assert known.context_window == 8192


def test_only_the_embedded_provider_is_compact_and_without_tools() -> None:
    special = {
        entry.name
        for entry in CATALOG.values()
        if entry.prompt_profile != "full" or not entry.offers_tools
    }
    assert special == {"local"}


def test_a_custom_provider_speaks_the_common_format() -> None:
    entry = custom_entry("my-proxy")
    assert (entry.kind, entry.needs_key, entry.base_url) == ("openai_chat", False, "")


def test_models_are_listed_once_with_sensible_numbers() -> None:
    assert len(_BY_KEY) == len(_MODELS)
    for model in _MODELS:
        assert model.vendor in CATALOG or model.vendor == "meta"
        assert 4096 <= model.context_window <= 2_000_000
        if model.max_output is not None:
            assert 0 < model.max_output <= model.context_window
        starts = [price.from_prompt_tokens for price in model.prices]
        assert starts == sorted(set(starts))
        assert not starts or starts[0] == 0
        for price in model.prices:
            assert 0 <= price.input <= price.output <= 100
            assert price.cached_input is None or price.cached_input <= price.input


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_default_model_belongs_to_its_provider(entry: ProviderEntry) -> None:
    if entry.default_model is None:
        return
    if not entry.default_model.startswith(f"{entry.name}/"):
        others = {
            other.name
            for other in CATALOG.values()
            if other.closed_words & model_words(entry.default_model)
            and not other.not_words & model_words(entry.default_model)
        }
        assert others <= {entry.name}


@pytest.mark.parametrize(
    "spelling",
    [
        "claude-opus-4-5",
        "anthropic/claude-opus-4-5",
        "claude-opus-4-5-20251101",
        "openrouter/anthropic/claude-opus-4.5",
        "CLAUDE-OPUS-4.5",
        "anthropic/claude-opus-4.5:thinking",
        "claude-opus-4-5-latest",
    ],
)
def test_a_model_is_known_by_all_its_usual_spellings(spelling: str) -> None:
    known = known_model(spelling)
    assert known is not None
    assert known.name == "claude-opus-4-5"


@pytest.mark.parametrize(
    "name", ["", "/", "claude", "opus-4-5", "xclaude-opus-4-5", "gpt-4.1-custom", "-latest", ":"]
)
def test_a_similar_name_is_not_taken_for_a_known_model(name: str) -> None:
    assert known_model(name) is None


def test_a_price_is_the_vendors_and_nobody_elses() -> None:
    price = price_of("openai", "gpt-4.1", prompt_tokens=1000)
    assert price is not None
    assert (price.input, price.output, price.cached_input) == (2, 8, 0.5)
    assert price_of("azure_openai", "gpt-4.1", prompt_tokens=1000) is None
    assert price_of("openai", "never-heard-of", prompt_tokens=1000) is None
    assert price_of("zhipu", "glm-5.2", prompt_tokens=1000) is None


def test_long_prompts_cost_what_the_vendor_says() -> None:
    rates = []
    for tokens in (0, 272_000, 272_001):
        price = price_of("openai", "gpt-5.4", prompt_tokens=tokens)
        assert price is not None
        rates.append((price.input, price.output, price.cached_input))
    assert rates == [(2.5, 15, 0.25), (2.5, 15, 0.25), (5, 22.5, 0.5)]


@pytest.mark.parametrize(
    ("model", "temperature", "switched_off"),
    [
        ("claude-opus-4-5", True, True),
        ("claude-opus-4-8", False, True),
        ("claude-opus-5-5", False, False),
        ("anthropic/claude-opus-9", False, False),  # not known, so new
        ("gpt-4.1", True, True),
        ("gpt-5", False, True),
        ("gpt-6.2-sol", False, False),
        ("gpt-9-astra", False, True),
        ("gpt-oss-9b", True, True),  # open weights take what their server takes
        ("qwen9", True, True),
    ],
)
def test_a_model_is_asked_for_nothing_that_it_is_known_to_refuse(
    model: str, temperature: bool, switched_off: bool
) -> None:
    assert accepts_temperature(model) == temperature
    assert reasons_always(model) != switched_off
