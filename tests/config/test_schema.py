"""The shape of config.json: documented, convertible to a JSON schema, and silent about secrets."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

import msgspec
import pytest

from nanobot import config as package
from nanobot.config import (
    AgentDefaults,
    Config,
    McpServer,
    ModelPreset,
    ProviderSettings,
    Settings,
    config_from_tree,
)
from nanobot.config._schema import Section

SECTIONS = [
    member
    for member in vars(package).values()
    if isinstance(member, type) and issubclass(member, Section) and member is not Config
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_is_described(section: type[Section]) -> None:
    assert section.__doc__
    for known in msgspec.structs.fields(section):
        assert get_origin(known.type) is Annotated, known.name
        descriptions = [meta.description for meta in get_args(known.type)[1:] if meta.description]
        assert len(descriptions) == 1, known.name
        assert descriptions[0].endswith("."), known.name


def test_a_json_schema_comes_out_of_the_structs() -> None:
    schema = msgspec.json.schema(Settings)
    defaults = schema["$defs"]["AgentDefaults"]["properties"]
    assert defaults["maxToolIterations"]["default"] == 200
    assert defaults["maxToolIterations"]["minimum"] == 1
    assert defaults["workspace"]["description"]
    assert schema["$defs"]["ProviderSettings"]["properties"]["apiKey"]["anyOf"][0]["writeOnly"]


def test_the_defaults_are_the_documented_ones() -> None:
    config = Config()
    defaults = config.agents.defaults
    assert defaults.workspace == "~/.nanobot/workspace"
    assert (defaults.max_tokens, defaults.temperature, defaults.provider) == (8192, 0.1, "auto")
    assert (defaults.max_tool_iterations, defaults.max_tool_result_chars) == (200, 16000)
    assert (defaults.consolidation_ratio, defaults.idle_compact_after_minutes) == (0.5, 15)
    assert (config.api.host, config.api.port, config.api.timeout) == ("127.0.0.1", 8900, 120)
    assert config.channels.websocket.port == 8765
    assert config.gateway.port == 18790
    assert McpServer().tool_timeout == 30
    assert McpServer().enabled_tools == ("*",)


def test_the_defaults_written_out_read_as_the_defaults() -> None:
    tree = msgspec.to_builtins(Settings())
    config = config_from_tree(tree, path=None, env={})
    assert config.unknown_keys == ()
    for name in Settings.__struct_fields__:
        assert getattr(config, name) == getattr(Config(), name)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().agents.defaults.model = "another"  # type: ignore[misc]  # that is the point


def test_no_text_of_a_configuration_shows_in_its_repr() -> None:
    config = config_from_tree(
        {
            "providers": {
                "openai": {"apiKey": "sk-canary", "extraHeaders": {"authorization": "canary"}}
            },
            "tools": {"mcpServers": {"files": {"env": {"TOKEN": "canary"}, "args": ["canary"]}}},
            "channels": {"websocket": {"token": "canary"}},
            "sessions": {"url": "postgres://user:canary@host/db"},
            "agents": {"defaults": {"maxTokens": 77}},
        },
        path=None,
        env={},
    )
    shown = repr(config) + repr(config.providers["openai"]) + repr(config.tools.mcp_servers)
    assert "canary" not in shown
    assert "max_tokens=77" in shown


def test_an_automatic_time_zone_hides_the_one_that_was_written() -> None:
    assert AgentDefaults(timezone="Asia/Tokyo").zone == "Asia/Tokyo"
    assert AgentDefaults(timezone="Asia/Tokyo", timezone_mode="auto").zone is None


def test_a_preset_needs_nothing_but_its_model() -> None:
    preset = ModelPreset(model="openai/gpt-4.1")
    assert (preset.provider, preset.max_tokens, preset.temperature) == ("auto", 8192, 0.1)


def test_timeouts_are_named_with_their_unit() -> None:
    names: list[Any] = [field.encode_name for field in msgspec.structs.fields(ProviderSettings)]
    assert "timeouts" in names
    assert ProviderSettings().timeouts.first_token_s == 300
