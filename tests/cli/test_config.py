"""`nanobot config`: single settings, read with their defaults, and changed without breaking the file."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.cli._config import keys_of, merged
from nanobot.cli._json_schema import config_schema
from nanobot.cli._masking import HIDDEN, masked
from nanobot.config import Settings

from .conftest import Configure, Invoke

KEY = "canary.0123456789"


def test_path_is_the_default_one_or_the_one_that_is_named(invoke: Invoke, home: Path) -> None:
    assert invoke("config", "path").stdout == f"{home}/.nanobot/config.json\n"
    assert invoke("config", "path", "-c", "a.json").stdout == f"{home}/a.json\n"


def test_get_prints_what_the_file_says_or_the_default(invoke: Invoke, configure: Configure) -> None:
    configure("http://127.0.0.1:9/v1")
    assert invoke("config", "get", "agents.defaults.model").stdout == "scripted/any\n"
    assert invoke("config", "get", "agents.defaults.maxTokens").stdout == "8192\n"
    everything = json.loads(invoke("config", "get").stdout)
    assert everything["providers"]["scripted"]["apiBase"] == "http://127.0.0.1:9/v1"
    assert everything["gateway"]["port"] == 18790


def test_get_works_without_a_file(invoke: Invoke, home: Path) -> None:
    assert invoke("config", "get", "api.port").stdout == "8900\n"
    assert list(home.iterdir()) == []


def test_keys_are_hidden_unless_they_are_asked_for(invoke: Invoke, configure: Configure) -> None:
    others = {
        "tools": {"mcpServers": {"x": {"url": "http://a/", "headers": {"Authorization": KEY}}}},
        "channels": {"telegram": {"token": KEY, "name": "t"}},
    }
    configure("http://127.0.0.1:9/v1", others=others)
    shown = invoke("config", "get").stdout
    assert KEY not in shown
    assert json.loads(shown)["channels"]["telegram"]["name"] == "t"
    assert invoke("config", "get", "providers.scripted.apiKey").stdout == f"{HIDDEN}\n"
    assert invoke("config", "get", "providers.scripted.apiKey", "--reveal").stdout == f"{KEY}\n"


def test_a_reference_to_a_variable_is_no_secret(
    invoke: Invoke, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    configure("http://127.0.0.1:9/v1")
    assert invoke("config", "set", "providers.scripted.apiKey", "${MY_KEY}").exit_code == 0
    assert invoke("config", "get", "providers.scripted.apiKey").stdout == "${MY_KEY}\n"


def test_get_of_an_unknown_setting_names_the_nearest(invoke: Invoke) -> None:
    answer = invoke("config", "get", "agents.defaults.modle")
    assert answer.exit_code == 1
    assert "Did you mean agents.defaults.model?" in answer.stderr


def test_set_keeps_everything_else_and_is_private(invoke: Invoke, configure: Configure) -> None:
    path = configure("http://127.0.0.1:9/v1", others={"mine": {"a": [1, 2]}})
    path.chmod(0o644)
    assert invoke("config", "set", "agents.defaults.maxTokens", "1234").exit_code == 0
    assert invoke("config", "set", "agents.defaults.timezone", "Asia/Tokyo").exit_code == 0
    tree = json.loads(path.read_text())
    assert tree["mine"] == {"a": [1, 2]}
    assert tree["agents"]["defaults"]["maxTokens"] == 1234
    assert tree["agents"]["defaults"]["timezone"] == "Asia/Tokyo"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_set_makes_a_file_where_there_is_none(invoke: Invoke, home: Path) -> None:
    assert invoke("config", "set", "agents.defaults.model", "openai/gpt-4.1").exit_code == 0
    tree = json.loads((home / ".nanobot" / "config.json").read_text())
    assert tree == {"agents": {"defaults": {"model": "openai/gpt-4.1"}}}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("agents.defaults.maxTokens", "many", "expected a whole number"),
        ("agents.defaults.modelPreset", "nowhere", "names no preset"),
        ("agents.defaults.modle", "x", "Did you mean agents.defaults.model?"),
        ("agents.defaults.model.name", "x", "is not an object"),
        ("providers.scripted.apiKey", "${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_set_changes_nothing_if_the_new_file_could_not_be_used(
    invoke: Invoke, configure: Configure, key: str, value: str, said: str
) -> None:
    path = configure("http://127.0.0.1:9/v1")
    before = path.read_bytes()
    answer = invoke("config", "set", key, value)
    assert answer.exit_code == 1
    assert said in answer.stderr
    assert path.read_bytes() == before


def test_set_may_be_forced_and_may_mend_a_file_that_is_broken_elsewhere(
    invoke: Invoke, configure: Configure
) -> None:
    path = configure("http://127.0.0.1:9/v1", maxTokens="many", temperature=9)
    assert invoke("config", "set", "agents.defaults.maxTokens", "100").exit_code == 0
    assert invoke("config", "set", "--force", "agents.mine", "1").exit_code == 0
    tree = json.loads(path.read_text())
    assert tree["agents"]["defaults"]["maxTokens"] == 100
    assert tree["agents"]["mine"] == 1


def test_names_with_dots_stand_in_quotes() -> None:
    assert keys_of('modelPresets."gpt-4.1".model') == ("modelPresets", "gpt-4.1", "model")
    assert keys_of("") == ()


def test_the_schema_is_that_of_the_structs(invoke: Invoke) -> None:
    schema = json.loads(invoke("config", "schema").stdout)
    assert schema == json.loads(json.dumps(config_schema()))
    defaults = schema["$defs"]["AgentDefaults"]["properties"]
    assert set(defaults) == {
        field.encode_name for field in msgspec.structs.fields(type(Settings().agents.defaults))
    }
    assert all("description" in one for one in defaults.values())
    ports = schema["$defs"]["ApiSettings"]["properties"]["port"]
    assert {"type": "integer", "minimum": 0, "maximum": 65535} in ports["anyOf"]
    assert any("pattern" in choice for choice in ports["anyOf"])  # "${PORT}" is as good


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON_VALUES, JSON_VALUES)
def test_what_is_set_wins_and_nothing_that_is_set_is_lost(defaults: Any, settings: Any) -> None:
    both = merged(defaults, settings)
    if isinstance(settings, dict):
        for key, value in settings.items():
            old = defaults.get(key) if isinstance(defaults, dict) else None
            assert both[key] == (
                merged(old, value) if isinstance(defaults, dict) and key in defaults else value
            )
    else:
        assert both == settings


@given(JSON_VALUES)
def test_masking_keeps_the_shape_whatever_the_file_holds(value: Any) -> None:
    root = config_schema()
    hidden = masked({"providers": value, "agents": value, "other": value}, root, root)
    assert set(hidden) == {"providers", "agents", "other"}
