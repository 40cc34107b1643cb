"""Which provider serves a model: the rules in their order, no guess, and never half a word."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.config import config_from_tree
from nanobot.errors import ConfigError
from nanobot.providers._catalog import CATALOG
from nanobot.providers._configured import Configured, configured_providers, find_provider
from nanobot.providers._match import Match, match_provider, model_words, wire_model

LOCAL_BASE = {"apiBase": "http://localhost:11434/v1"}


def configured(*ready: str, **providers: Mapping[str, Any]) -> tuple[Configured, ...]:
    """All providers, of which the named ones have a key and the others the given settings."""
    tree = {"providers": {**{name: {"apiKey": "k"} for name in ready}, **providers}}
    return configured_providers(config_from_tree(tree, path=None, env={}), {})


def matched(
    model: str, *ready: str, provider: str = "auto", **providers: Any
) -> tuple[str, str, str]:
    match = match_provider(model, provider=provider, configured=configured(*ready, **providers))
    return match.provider.name, match.model, match.reason


def refused(model: str, *ready: str, provider: str = "auto", **providers: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        match_provider(model, provider=provider, configured=configured(*ready, **providers))
    return str(caught.value)


def test_a_named_provider_is_taken() -> None:
    both = ("openai", "groq")
    assert matched("openai/gpt-oss-20b", *both, provider="groq") == (
        "groq",
        "openai/gpt-oss-20b",
        "named",
    )
    assert matched("groq/llama-3.3-70b-versatile", *both, provider="Groq")[1] == (
        "llama-3.3-70b-versatile"
    )
    assert matched("llama", provider="lm-studio") == ("lm_studio", "llama", "named")


def test_a_prefix_that_names_a_usable_provider_decides() -> None:
    assert matched("anthropic/claude-opus-4-5", "anthropic", "openrouter") == (
        "anthropic",
        "claude-opus-4-5",
        "prefix",
    )
    assert matched("openrouter/anthropic/claude-opus-4.5", "anthropic", "openrouter") == (
        "openrouter",
        "anthropic/claude-opus-4.5",
        "prefix",
    )
    assert matched("google/gemini-2.5-flash", "gemini") == ("gemini", "gemini-2.5-flash", "prefix")
    assert matched("ollama/llama3.2") == ("ollama", "llama3.2", "prefix")
    assert matched("local/smollm2-135m", "openai") == ("local", "smollm2-135m", "prefix")
    assert matched("my-proxy/gpt-4.1", "openai", my_proxy={"apiBase": "http://h/v1"}) == (
        "my_proxy",
        "gpt-4.1",
        "prefix",
    )


@pytest.mark.parametrize(
    ("model", "wire"),
    [
        ("openrouter/auto", "openrouter/auto"),
        ("openrouter/openai/gpt-4.1", "openai/gpt-4.1"),
        ("nvidia/nemotron-nano", "nvidia/nemotron-nano"),
        ("nvidia/meta/llama-3.3-70b-instruct", "meta/llama-3.3-70b-instruct"),
        ("groq/compound", "groq/compound"),
        ("groq/moonshotai/kimi-k2", "moonshotai/kimi-k2"),
        ("aihubmix/anthropic/claude-opus-4-5", "claude-opus-4-5"),
        ("together/meta-llama/Llama-3.3-70B", "meta-llama/Llama-3.3-70B"),
        ("azure/my-deployment", "my-deployment"),
    ],
)
def test_each_service_hears_the_name_it_knows(model: str, wire: str) -> None:
    name = model.split("/")[0]
    provider = find_provider(name, configured())
    assert provider is not None
    assert wire_model(provider.entry, model) == wire


def test_a_family_name_decides_when_its_provider_is_ready() -> None:
    both = ("openai", "anthropic")
    assert matched("gpt-4.1", *both) == ("openai", "gpt-4.1", "family")
    assert matched("Claude-Sonnet-4-5", *both) == ("anthropic", "Claude-Sonnet-4-5", "family")
    assert matched("o3-mini", *both)[0] == "openai"
    assert matched("qwen2.5-coder", "openai", "dashscope")[0] == "dashscope"
    assert matched("glm4", "openai", "zhipu")[0] == "zhipu"
    assert matched("qwen2.5:7b", "dashscope", ollama=LOCAL_BASE)[2] == "family"


@pytest.mark.parametrize(
    "model",
    ["claudette", "egpt-4", "spark-max", "benchmark-1", "stepwise", "boring-1", "myclaude2x"],
)
def test_half_a_word_is_no_family_name(model: str) -> None:
    assert "Several providers" in refused(model, *CATALOG)


def test_a_local_server_serves_what_nobody_else_is_known_for() -> None:
    assert matched("llama3.2", "openai", ollama=LOCAL_BASE) == ("ollama", "llama3.2", "local")
    assert matched("foo/bar", ollama=LOCAL_BASE) == ("ollama", "foo/bar", "local")
    assert matched("qwen2.5:7b", "openai", ollama=LOCAL_BASE)[0] == "ollama"


def test_a_key_alone_does_not_make_a_local_server_a_choice() -> None:
    assert matched("llama3.2", "openai", ollama={"apiKey": "k"})[0] == "openai"


def test_a_local_server_is_not_asked_for_models_with_closed_weights() -> None:
    assert "Anthropic" in refused("anthropic/claude-opus-4-5", ollama=LOCAL_BASE)
    assert "Anthropic" in refused("claude-opus-4-5", ollama=LOCAL_BASE)


def test_the_only_provider_serves_unknown_models() -> None:
    assert matched("my-finetune", "openai") == ("openai", "my-finetune", "only")
    assert matched("anything", azureOpenai={"apiKey": "k", "apiBase": "https://x.example"}) == (
        "azure_openai",
        "anything",
        "only",
    )


def test_a_gateway_serves_the_models_of_vendors_without_a_key() -> None:
    both = ("anthropic", "openrouter")
    assert matched("openai/gpt-4.1", *both) == ("openrouter", "openai/gpt-4.1", "only")
    assert matched("anthropic/x", "openrouter") == ("openrouter", "anthropic/x", "only")
    assert matched("gpt-4.1", corp={"apiBase": "http://h"}) == ("corp", "gpt-4.1", "only")
    assert matched("openai/gpt-oss-120b", "openai", "groq") == (
        "groq",
        "openai/gpt-oss-120b",
        "only",
    )


def test_one_vendor_is_never_asked_for_the_models_of_another() -> None:
    message = refused("claude-opus-4-5", "openai")
    assert "ANTHROPIC_API_KEY" in message
    assert "providers.anthropic.apiKey" in message
    assert "Configured so far: openai" in message
    assert "GEMINI_API_KEY" in refused("gemini-2.5-pro", "groq", "openai")


def test_a_service_that_was_named_and_lacks_its_key_is_not_replaced() -> None:
    assert "GROQ_API_KEY" in refused("groq/llama-3.3-70b", "deepseek", "openrouter")
    assert "providers.vllm.apiBase" in refused("vllm/llama", "openrouter")
    assert "AZURE_OPENAI_API_KEY" in refused("azure/gpt-4.1", "openai")
    assert "OPENAI_API_KEY" in refused("gpt-4.1", provider="openai")


def test_several_possible_providers_are_named_and_none_is_taken() -> None:
    assert "openrouter, together" in refused("llama-3", "openrouter", "together")
    assert "kimi_coding" in refused("kimi-k2", "moonshot", "kimi_coding")
    assert "lm_studio" in refused("llama", ollama=LOCAL_BASE, lmStudio={"apiBase": "http://h"})


def test_nothing_at_all_says_what_to_set() -> None:
    assert "ANTHROPIC_API_KEY" in refused("some-model")
    assert "providers.<name>.apiKey" in refused("some-model")


def test_names_of_other_versions_are_explained() -> None:
    assert "login" in refused("github_copilot/gpt-4o", "openai")
    assert "login" in refused("gpt-4o", "openai", provider="openaiCodex")
    assert "login" in refused("openai-codex/gpt-5", "openai", openaiCodex={"apiKey": "k"})
    assert "There is no provider 'opnai'" in refused("gpt-4o", "openai", provider="opnai")


@pytest.mark.parametrize("model", ["", " ", "openai/"])
def test_a_model_without_a_name_is_refused(model: str) -> None:
    refused(model, "openai")


@pytest.mark.parametrize("model", ["/", "//", "/gpt", "a/b/c/d", "\x1b[31m", "🐈", "x" * 10_000])
def test_odd_names_end_in_a_match_or_an_explanation(model: str) -> None:
    assert matched(model, "openrouter")[1] == model


def test_words_are_whole_and_lose_a_final_number_only() -> None:
    assert {"gpt", "4", "1", "mini"} <= model_words("GPT-4.1-mini")
    assert {"qwen2", "qwen"} <= model_words("qwen2.5")
    assert "claude" not in model_words("claudette")
    assert "r1" in model_words("deepseek-r1")


MODELS = st.one_of(
    st.sampled_from(
        [
            "gpt-4.1",
            "claude-opus-4-5",
            "anthropic/claude-opus-4-5",
            "openai/gpt-4.1",
            "openai/gpt-oss-20b",
            "openrouter/auto",
            "llama3.2",
            "qwen/qwen3-max",
            "local/smollm2-135m",
            "mine/model",
            "kimi-k2",
            "groq/x",
        ]
    ),
    st.text(max_size=12),
    st.tuples(st.sampled_from(sorted(CATALOG)), st.text(max_size=8)).map("/".join),
)
READY = st.sets(st.sampled_from(sorted(CATALOG)), max_size=5)


def outcome(model: str, providers: tuple[Configured, ...]) -> Match | None:
    try:
        return match_provider(model, configured=providers)
    except ConfigError:
        return None


@given(MODELS, READY)
def test_a_match_is_always_a_provider_that_can_be_used(model: str, ready: set[str]) -> None:
    match = outcome(model, configured(*ready))
    if match is None:
        return
    assert match.provider.missing == ""
    assert match.provider.ready or match.reason == "prefix"
    assert match.model
    assert model.endswith(match.model)


@given(MODELS, READY, st.randoms())
def test_the_order_of_the_catalog_does_not_matter(
    model: str, ready: set[str], shuffler: random.Random
) -> None:
    providers = list(configured(*ready))
    first = outcome(model, tuple(providers))
    shuffler.shuffle(providers)
    second = outcome(model, tuple(providers))
    assert (first and (first.provider.name, first.model, first.reason)) == (
        second and (second.provider.name, second.model, second.reason)
    )


@given(MODELS, READY)
def test_more_providers_never_turn_one_answer_into_another_by_the_same_rule(
    model: str, ready: set[str]
) -> None:
    """With one key more, an answer may move to an earlier rule or become ambiguous; it never changes silently."""
    before = outcome(model, configured(*ready))
    for added in CATALOG:
        after = outcome(model, configured(*ready, added))
        if before and after and before.reason == after.reason:
            assert before.provider.name == after.provider.name


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=6), st.booleans())
def test_letters_beside_a_family_name_make_another_word(letters: str, before: bool) -> None:
    word = f"{letters}claude" if before else f"claude{letters}"
    assert "claude" not in model_words(word)


def test_a_key_does_not_show() -> None:
    match = match_provider("gpt-4.1", configured=configured(openai={"apiKey": "sk-canary"}))
    assert "canary" not in repr(match)
