"""From a configuration and a wish to one model that can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.config import Config, config_from_tree, load_config
from nanobot.errors import ConfigError, UnknownPreset, UsageError
from nanobot.providers._select import (
    ConflictingSelectors,
    ModelSelection,
    select_model,
    select_model_of,
)

PLACE = Path("/home/me/.nanobot/config.json")
ONBOARD = Path(__file__).parents[1] / "config" / "onboard.json"


def selected(
    tree: dict[str, Any] | None = None,
    *,
    env: dict[str, str] | None = None,
    model: str | None = None,
    model_preset: str | None = None,
) -> ModelSelection:
    """The selection for the object of a file; None is a home folder without one."""
    config = Config(path=PLACE)
    if tree is not None:
        config = config_from_tree(tree, path=PLACE, env={})
    return select_model(config, model=model, model_preset=model_preset, env=env or {})


def refused(*args: Any, **keywords: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        selected(*args, **keywords)
    return str(caught.value)


def defaults(**fields: Any) -> dict[str, Any]:
    return {"agents": {"defaults": fields}}


def test_without_anything_the_embedded_model_answers_and_says_so() -> None:
    selection = selected()
    assert (selection.kind, selection.provider_name) == ("local", "local")
    assert (selection.model, selection.display_model) == ("smollm2-135m", "local/smollm2-135m")
    assert (selection.prompt_profile, selection.offers_tools) == ("compact", False)
    assert selection.context_window_tokens == 8192
    assert selection.max_tokens == 1024
    assert "ANTHROPIC_API_KEY" in selection.notice
    assert selection.key_source == ""


def test_a_configuration_without_any_key_is_not_replaced_by_the_embedded_model() -> None:
    message = refused({})
    assert "ANTHROPIC_API_KEY" in message
    assert f"providers.<name>.apiKey in {PLACE}" in message


def test_asking_for_a_model_is_not_answered_by_the_embedded_one() -> None:
    assert "OPENAI_API_KEY" in refused(model="gpt-4.1")
    assert "DEEPSEEK_API_KEY" in refused(defaults(model="deepseek/deepseek-chat"))


@pytest.mark.parametrize(
    ("env", "display"),
    [
        ({"OPENAI_API_KEY": "k"}, "openai/gpt-4.1"),
        ({"OPENROUTER_API_KEY": "k"}, "openrouter/auto"),
        ({"GROQ_API_KEY": "k"}, "groq/openai/gpt-oss-120b"),
        ({"GOOGLE_API_KEY": "k"}, "gemini/gemini-flash-latest"),
        ({"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}, "anthropic/claude-opus-4-5"),
        ({"OPENAI_API_KEY": "k", "GROQ_API_KEY": "  "}, "openai/gpt-4.1"),
    ],
)
def test_keys_in_the_environment_are_enough(env: dict[str, str], display: str) -> None:
    trees: list[dict[str, Any] | None] = [None, {}]
    for tree in trees:
        selection = selected(tree, env=env)
        assert selection.display_model == display
        assert selection.notice == ""
        assert selection.endpoint.api_key == "k"
        assert selection.key_source in env


def test_several_keys_and_no_model_is_a_question_not_a_guess() -> None:
    message = refused(env={"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"})
    assert "openai, groq" in message
    assert "agents.defaults.model" in message


def test_a_token_that_has_other_uses_does_not_choose_its_provider() -> None:
    assert selected(env={"HF_TOKEN": "k"}).kind == "local"
    assert selected(env={"HF_TOKEN": "k", "OPENAI_API_KEY": "k"}).provider_name == "openai"
    by_name = selected(env={"HF_TOKEN": "k"}, model="huggingface/openai/gpt-oss-120b")
    assert (by_name.provider_name, by_name.endpoint.api_key) == ("huggingface", "k")


def test_a_variable_of_two_entries_belongs_to_the_one_that_is_not_a_variant() -> None:
    env = {"MINIMAX_API_KEY": "k"}
    assert selected(env=env, model="MiniMax-M2").provider_name == "minimax"
    variant = selected(env=env, model="minimax_anthropic/MiniMax-M2")
    assert (variant.provider_name, variant.kind) == ("minimax_anthropic", "anthropic")


def test_a_named_provider_without_a_model_serves_its_usual_one() -> None:
    tree = defaults(provider="deepseek")
    selection = selected(tree, env={"DEEPSEEK_API_KEY": "k", "OPENAI_API_KEY": "k"})
    assert selection.display_model == "deepseek/deepseek-flash"
    assert "DEEPSEEK_API_KEY" in refused(tree)
    assert "ollama/<model>" in refused(defaults(provider="ollama"))
    assert "There is no provider" in refused(defaults(provider="opnai"))


def test_the_configured_key_wins_over_the_environment() -> None:
    tree = {"providers": {"openai": {"apiKey": " from-file\n"}}}
    selection = selected(tree, env={"OPENAI_API_KEY": "from-env"}, model="gpt-4.1")
    assert selection.endpoint.api_key == "from-file"
    assert selection.key_source == "providers.openai.apiKey"
    empty = {"providers": {"openai": {"apiKey": ""}}}
    assert selected(empty, env={"OPENAI_API_KEY": "from-env"}, model="gpt-4.1").key_source == (
        "OPENAI_API_KEY"
    )


def test_a_base_from_the_environment_never_meets_a_key_from_the_file() -> None:
    env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://proxy.example/v1"}
    assert selected({}, env=env).endpoint.base_url == "https://proxy.example/v1"
    tree = {"providers": {"openai": {"apiKey": "from-file"}}}
    assert selected(tree, env=env).endpoint.base_url == "https://api.openai.com/v1"


def test_an_old_file_works_with_the_key_it_holds() -> None:
    config = load_config(ONBOARD, env={})
    selection = select_model(config, env={})
    assert selection.endpoint.api_key == "sk-ant-from-the-file"
    assert selection.display_model == "anthropic/claude-opus-4-5"
    assert (selection.kind, selection.model) == ("anthropic", "claude-opus-4-5")
    assert (selection.max_tokens, selection.context_window_tokens) == (8192, 200_000)
    assert selection.temperature == 0.1
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        select_model(config, model_preset="fast", env={})


PRESETS = {
    "agents": {"defaults": {"modelPreset": "fast", "model": "gpt-4.1", "maxTokens": 100}},
    "modelPresets": {
        "fast": {"model": "openai/gpt-4.1-mini", "maxTokens": 50, "temperature": 0.7},
        "reasoning": {"model": "o3", "reasoningEffort": "high", "contextWindowTokens": 50_000},
    },
    "providers": {"openai": {"apiKey": "k"}},
}


def test_the_configured_preset_wins_over_the_fields_beside_it() -> None:
    selection = selected(PRESETS)
    assert (selection.preset, selection.model) == ("fast", "gpt-4.1-mini")
    assert (selection.max_tokens, selection.temperature) == (50, 0.7)


def test_a_preset_can_be_asked_for_by_name() -> None:
    selection = selected(PRESETS, model_preset="reasoning")
    assert (selection.preset, selection.model) == ("reasoning", "o3")
    assert selection.reasoning_effort == "high"
    assert selection.context_window_tokens == 50_000
    assert selection.temperature is None  # the model refuses any


def test_the_direct_fields_are_the_preset_called_default() -> None:
    selection = selected(PRESETS, model_preset="default")
    assert (selection.preset, selection.model, selection.max_tokens) == (None, "gpt-4.1", 100)


def test_a_model_drops_the_preset_and_the_provider() -> None:
    tree = {**PRESETS, **defaults(modelPreset="fast", provider="openai", maxTokens=100)}
    tree["providers"] = {"openai": {"apiKey": "k"}, "anthropic": {"apiKey": "k"}}
    selection = selected(tree, model="claude-haiku-4-5")
    assert (selection.preset, selection.provider_name) == (None, "anthropic")
    assert (selection.max_tokens, selection.temperature) == (100, 0.1)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UnknownPreset, match="Available: default, fast, reasoning"):
        selected(PRESETS, model_preset="fsat")


def test_a_model_and_a_preset_exclude_each_other() -> None:
    with pytest.raises(ConflictingSelectors, match="mutually exclusive") as caught:
        selected(PRESETS, model="x", model_preset="fast")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)


def test_an_empty_model_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match="model is empty"):
        selected(PRESETS, model="  ")


def test_limits_come_from_the_model_unless_the_configuration_says_otherwise() -> None:
    env = {"OPENAI_API_KEY": "k"}
    known = selected(defaults(model="openai/gpt-4o"), env=env)
    assert (known.context_window_tokens, known.max_tokens) == (128_000, 8192)
    unknown = selected(defaults(model="openai/gpt-next"), env=env)
    assert (unknown.context_window_tokens, unknown.max_tokens) == (200_000, 8192)
    said = selected(defaults(model="openai/gpt-4o", contextWindowTokens=10_000), env=env)
    assert (said.context_window_tokens, said.max_tokens) == (10_000, 5_000)
    small = selected(defaults(model="openai/gpt-3.5-turbo"), env=env)
    assert small.max_tokens == 4096
    # What was configured for another model does not outgrow the one that is asked for.
    other = selected(defaults(contextWindowTokens=900_000), env=env, model="openai/gpt-4o")
    assert other.context_window_tokens == 128_000


def test_the_embedded_model_is_never_promised_more_than_it_has() -> None:
    tree = defaults(model="local/smollm2-135m", contextWindowTokens=200_000, maxTokens=8192)
    selection = selected(tree)
    assert (selection.context_window_tokens, selection.max_tokens) == (8192, 1024)
    assert selection.notice == ""
    assert "local/smollm2-135m" in refused(model="local/llama-70b")


def test_models_that_do_not_reason_are_not_asked_to() -> None:
    env = {"OPENAI_API_KEY": "k"}
    assert (
        selected(defaults(model="gpt-4.1", reasoningEffort="high"), env=env).reasoning_effort
        is None
    )
    assert (
        selected(defaults(model="gpt-5", reasoningEffort="high"), env=env).reasoning_effort
        == "high"
    )
    assert (
        selected(defaults(model="openai/new", reasoningEffort="low"), env=env).reasoning_effort
        == "low"
    )


def test_the_wire_format_follows_provider_setting_and_model() -> None:
    env = {"OPENAI_API_KEY": "k", "OPENROUTER_API_KEY": "k"}
    assert selected({}, env=env, model="openai/gpt-4.1").kind == "openai_chat"
    assert selected({}, env=env, model="openai/gpt-6.2-sol").kind == "openai_responses"
    assert selected({}, env=env, model="openrouter/openai/gpt-6.2-sol").kind == "openai_chat"
    for api_type, kind in (("responses", "openai_responses"), ("chat_completions", "openai_chat")):
        tree = {"providers": {"openai": {"apiType": api_type}}}
        assert selected(tree, env=env, model="openai/gpt-6.2-sol").kind == kind


@pytest.mark.parametrize(
    ("provider", "given", "complete"),
    [
        ("openai", "https://api.openai.com", "https://api.openai.com/v1"),
        ("openai", "https://h.example/v2/", "https://h.example/v2"),
        ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("anthropic", "https://h.example/anthropic/", "https://h.example/anthropic/v1"),
        ("anthropic", "https://h.example/v1", "https://h.example/v1"),
        ("azure_openai", "https://me.openai.azure.com", "https://me.openai.azure.com/openai/v1"),
        ("azure_openai", "https://me.example/openai/v1/", "https://me.example/openai/v1"),
        ("ollama", "http://box:11434", "http://box:11434/v1"),
        ("lm_studio", "http://box:1234/v1", "http://box:1234/v1"),
        ("vllm", "http://[::1]:8000/", "http://[::1]:8000/v1"),
        ("ovms", "http://box:8000", "http://box:8000/v3"),
        ("gemini", "https://h.example", "https://h.example/v1beta/openai"),
        ("my_own", "http://box:9/api", "http://box:9/api"),
        ("my_own", "http://box:9", "http://box:9"),
        ("local", "http://box:9/v1", "http://box:9/v1"),
    ],
)
def test_a_base_url_is_completed_where_users_leave_it_out(
    provider: str, given: str, complete: str
) -> None:
    tree = {"providers": {provider: {"apiKey": "k", "apiBase": given}}}
    selection = selected(tree, model=f"{provider}/some-model")
    assert selection.endpoint.base_url == complete
    assert selection.endpoint.name == provider


def test_the_default_addresses_of_local_servers_need_no_configuration() -> None:
    assert selected(model="ollama/llama3.2").endpoint.base_url == "http://localhost:11434/v1"


@pytest.mark.parametrize("base", ["http://h:99999999", "http://[::1", "https://h:0/v1"])
def test_a_base_url_that_is_none_is_named_by_its_key(base: str) -> None:
    tree = {"providers": {"openai": {"apiKey": "k", "apiBase": base}}}
    assert f"providers.openai.apiBase in {PLACE}" in refused(tree, model="openai/x")


@pytest.mark.parametrize("key", ["sk-\nx", "clé", "k\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key: str) -> None:
    message = refused(model="openai/x", env={"OPENAI_API_KEY": key})
    assert "OPENAI_API_KEY" in message
    assert key not in message


def test_a_header_that_cannot_be_sent_is_refused() -> None:
    tree = {"providers": {"openai": {"apiKey": "k", "extraHeaders": {"X-A": "canary\r\nX-B: 1"}}}}
    message = refused(tree, model="openai/x")
    assert "providers.openai.extraHeaders" in message
    assert "canary" not in message


def test_everything_about_the_endpoint_is_carried_over() -> None:
    tree = {
        "providers": {
            "my_own": {
                "apiBase": "http://box/v1",
                "extraHeaders": {"X-Team": "a"},
                "extraBody": {"top_k": 3},
                "extraQuery": {"v": "1"},
                "proxy": "http://p:1",
                "timeouts": {"connectS": 1, "first_token_s": 2, "betweenTokensS": 3, "requestS": 4},
            }
        }
    }
    endpoint = selected(tree, model="my_own/model").endpoint
    assert endpoint.api_key == ""
    assert endpoint.extra_headers == {"X-Team": "a"}
    assert endpoint.extra_body == {"top_k": 3}
    assert endpoint.extra_query == {"v": "1"}
    assert endpoint.proxy == "http://p:1"
    limits = endpoint.timeouts
    assert (limits.connect_s, limits.first_token_s, limits.between_tokens_s, limits.request_s) == (
        1,
        2,
        3,
        4,
    )


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_refused_with_the_way_out_by_who_would_use_it(scheme: str) -> None:
    tree = {
        "providers": {
            "openai": {"apiKey": "k", "proxy": f"{scheme}://user:canary@127.0.0.1:7891"},
            "mistral": {"apiKey": "k"},
        }
    }
    with pytest.raises(ConfigError) as caught:
        selected(tree, model="openai/gpt-4.1")
    message = str(caught.value)
    assert message.startswith(
        "providers.openai.proxy in /home/me/.nanobot/config.json is a SOCKS proxy"
    )
    assert "give its address, such as http://127.0.0.1:7890." in message
    assert "canary" not in message
    assert selected(tree, model="mistral/mistral-large-latest").endpoint.proxy is None


def test_a_custom_provider_without_an_address_says_what_it_lacks() -> None:
    tree = {"providers": {"my_own": {"apiKey": "k"}}}
    assert f"providers.my_own.apiBase in {PLACE}" in refused(tree, model="my_own/model")


def test_quirks_come_from_the_catalog() -> None:
    env = {"OPENAI_API_KEY": "k", "MISTRAL_API_KEY": "k"}
    assert "max_completion_tokens" in selected(env=env, model="gpt-4.1").endpoint.quirks
    assert "no_stream_usage" in selected(env=env, model="codestral-latest").endpoint.quirks


def test_a_selection_does_not_show_its_key() -> None:
    selection = selected(env={"OPENAI_API_KEY": "sk-canary"})
    assert "canary" not in repr(selection)


@given(
    st.sampled_from([None, "gpt-4.1", "llama", "openrouter/auto", "x/y", "local/smollm2-135m"]),
    st.dictionaries(
        st.sampled_from(
            ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "HF_TOKEN", "OPENAI_BASE_URL"]
        ),
        st.sampled_from(["k", "", "https://h.example"]),
    ),
    st.integers(1, 10**7),
    st.none() | st.integers(1, 10**7),
)
def test_any_selection_leaves_room_for_a_prompt(
    model: str | None, env: dict[str, str], max_tokens: int, window: int | None
) -> None:
    tree = defaults(maxTokens=max_tokens, contextWindowTokens=window)
    try:
        selection = selected(tree, env=env, model=model)
    except ConfigError as error:
        assert str(error)  # noqa: PT017  # either way out is fine
        return
    assert 1 <= selection.max_tokens <= max_tokens
    assert selection.max_tokens <= max(1, selection.context_window_tokens // 2)
    assert selection.endpoint.base_url or selection.kind == "local"


@pytest.mark.parametrize(
    "model",
    ["openai/gpt-4.1", "gpt-4.1", "anthropic/claude-opus-4-5", "openai/o3"],
)
def test_a_provider_of_ones_own_is_asked_the_same_with_the_services_key_and_without(
    model: str,
) -> None:
    keys = {"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-test"}
    config = config_from_tree(defaults(model=model, reasoningEffort="high"), path=PLACE, env={})
    with_keys, without = (select_model_of("own", config, env=env) for env in (keys, {}))
    for name in (
        "model",
        "display_model",
        "max_tokens",
        "context_window_tokens",
        "temperature",
        "reasoning_effort",
        "prompt_profile",
        "offers_tools",
        "enforces_schemas",
        "notice",
    ):
        assert getattr(with_keys, name) == getattr(without, name), name


def test_a_provider_of_ones_own_is_never_asked_for_the_embedded_model_unless_it_is_named() -> None:
    assert select_model_of("own", Config(path=PLACE), env={}).model == "claude-opus-4-5"
    named = select_model_of("own", Config(path=PLACE), model="local/smollm2-135m", env={})
    assert named.model == "smollm2-135m"
    with pytest.raises(UnknownPreset):
        select_model_of("own", Config(path=PLACE), model_preset="slow", env={})
    with pytest.raises(ConflictingSelectors):
        select_model_of("own", Config(path=PLACE), model="a", model_preset="b", env={})
