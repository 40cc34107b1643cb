"""A bot with a provider of the caller's own: nothing of the configured services has to be usable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanobot import Nanobot
from nanobot.agent import AgentHook
from nanobot.errors import InvalidArgument
from nanobot.testing import InMemoryStore, ScriptedProvider


@pytest.fixture(autouse=True)
def no_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def make_bot(provider: ScriptedProvider, **arguments: Any) -> Nanobot:
    return Nanobot.from_config(provider=provider, store=InMemoryStore(), **arguments)


def test_it_needs_no_key_and_no_configuration_and_is_not_taken_for_the_embedded_model() -> None:
    model = ScriptedProvider(["hello"])
    with make_bot(model) as bot:
        assert bot.run_sync("hi").content == "hello"
        assert bot.runtime.notice == ""
    assert model.requests[0].max_tokens == 8192


def test_a_configuration_may_name_models_that_no_key_is_there_for(home: Path) -> None:
    file = home / "config.json"
    presets = {"fast": {"model": "my-own", "contextWindowTokens": 50_000, "maxTokens": 700}}
    file.write_text(
        json.dumps({"agents": {"defaults": {"model": "openai/gpt-4.1"}}, "modelPresets": presets})
    )
    model = ScriptedProvider(["one", "two", "three"])
    with make_bot(model, config_path=file) as bot:
        assert bot.runtime.model == "openai/gpt-4.1"
        bot.run_sync("a")
        bot.run_sync("b", model_preset="fast")
        bot.run_sync("c", model="anyone/anything")
    asked = [(request.model, request.max_tokens) for request in model.requests]
    assert asked == [("gpt-4.1", 8192), ("my-own", 700), ("anyone/anything", 8192)]


def test_what_is_known_of_a_configured_model_does_not_hold_for_it_in_a_run_with_an_override(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    model = ScriptedProvider(["[1]", "[2]"])
    with make_bot(model) as bot:
        assert bot.run_sync("a", output_type=list[int]).output == [1]
        assert bot.run_sync("b", output_type=list[int], model="openai/gpt-4.1").output == [2]
    assert [request.output for request in model.requests] == [None, None]


@pytest.mark.parametrize("provider", ["openai", ScriptedProvider])
def test_what_is_no_provider_is_refused_at_once(provider: Any) -> None:
    with pytest.raises(InvalidArgument, match="provider must be an object"):
        Nanobot.from_config(provider=provider)


@pytest.mark.parametrize("hooks", [[AgentHook], [None], AgentHook()])
def test_what_is_no_hook_is_refused_for_a_bot_as_for_a_run(hooks: Any) -> None:
    with pytest.raises(InvalidArgument, match="hooks must be"):
        make_bot(ScriptedProvider([]), hooks=hooks)
    with make_bot(ScriptedProvider([])) as bot, pytest.raises(InvalidArgument, match="hooks must"):
        bot.run_sync("hi", hooks=hooks)


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("model", 5),
        ("model_preset", b"fast"),
        ("store", "sqlite"),
        ("store", InMemoryStore),
        ("telemetry", True),
        ("telemetry", "otel"),
    ],
)
def test_what_is_not_what_it_should_be_is_refused_by_name(argument: str, given: Any) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{argument} must be .* not "):
        Nanobot.from_config(**{argument: given})


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("model", 5),
        ("model_preset", ["fast"]),
        ("timeout_s", "10"),
        ("timeout_s", float("nan")),
        ("max_iterations", 1.5),
        ("max_iterations", float("nan")),
        ("max_iterations", "3"),
        ("max_iterations", True),
    ],
)
def test_so_it_is_in_a_run(argument: str, given: Any) -> None:
    with make_bot(ScriptedProvider(["hello"])) as bot:
        with pytest.raises(InvalidArgument, match=rf"^{argument} must be .* not "):
            bot.run_sync("hi", **{argument: given})
        assert bot.run_sync("hi").content == "hello"
