"""Reading a configuration: every spelling, old files, variables, defaults, and no memory between two loads."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from nanobot.config import Config, InvalidConfig, config_from_tree, load_config, read_tree
from nanobot.errors import ConfigError

ONBOARD = Path(__file__).with_name("onboard.json")


def written(folder: Path, tree: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def issues_of(tree: dict[str, Any], env: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(InvalidConfig) as caught:
        config_from_tree(tree, path=None, env=env or {})
    return {issue.path: issue.message for issue in caught.value.issues}


def snake_keys(value: Any) -> Any:
    """The tree as somebody who likes snake_case would write it, chosen names excepted."""
    chosen = {"modelPresets", "providers", "mcpServers", "env", "headers"}
    if isinstance(value, dict):
        return {
            re.sub("[A-Z]", lambda c: "_" + c[0].lower(), key): (
                {name: snake_keys(item) for name, item in member.items()}
                if key in chosen
                else snake_keys(member)
            )
            for key, member in value.items()
        }
    if isinstance(value, list):
        return [snake_keys(item) for item in value]
    return value


def test_a_file_with_every_old_key_loads_without_a_single_complaint() -> None:
    config = load_config(ONBOARD, env={})
    assert config.unknown_keys == ()
    assert config.source == ONBOARD
    assert config.providers["anthropic"].api_key == "sk-ant-from-the-file"
    assert config.providers["lmStudio"].api_key is None
    assert config.model_presets["fast"].max_tokens == 4096
    assert config.tools.mcp_servers["files"].env == {"SOME_token_NAME": "kept as it is"}
    assert config.tools.restrict_to_workspace is False
    assert config.agents.defaults.zone is None
    assert config.agents.defaults.dream.interval_h == 2
    assert config.gateway.heartbeat.interval_s == 1800


def test_the_tree_of_an_old_file_is_the_file() -> None:
    assert load_config(ONBOARD, env={}).tree == json.loads(ONBOARD.read_text("utf-8"))


def test_snake_case_means_the_same_at_every_level() -> None:
    tree = json.loads(ONBOARD.read_text("utf-8"))
    snake = snake_keys(tree)
    assert "max_tool_iterations" in snake["agents"]["defaults"]
    one = config_from_tree(tree, path=None, env={})
    other = config_from_tree(snake, path=None, env={})
    for section in ("agents", "model_presets", "providers", "api", "gateway", "tools"):
        assert getattr(other, section) == getattr(one, section)
    assert other.unknown_keys == ()
    assert "maxToolIterations" in other.tree["agents"]["defaults"]


def test_names_that_the_user_chose_are_never_respelled() -> None:
    config = config_from_tree(
        {
            "model_presets": {"my_fast_one": {"model": "x"}},
            "providers": {
                "my_proxy": {"api_base": "http://h", "extra_body": {"top_k": {"max_k": 1}}}
            },
            "tools": {
                "mcp_servers": {"my_server": {"env": {"MY_VAR": "1"}, "headers": {"x_y": "z"}}}
            },
        },
        path=None,
        env={},
    )
    assert list(config.model_presets) == ["my_fast_one"]
    assert config.providers["my_proxy"].extra_body == {"top_k": {"max_k": 1}}
    assert config.tools.mcp_servers["my_server"].env == {"MY_VAR": "1"}
    assert config.tools.mcp_servers["my_server"].headers == {"x_y": "z"}


def test_unknown_keys_are_listed_where_they_stand_and_hurt_nobody() -> None:
    config = config_from_tree(
        {
            "extra": 1,
            "agents": {"defaults": {"maxToken": 3}},
            "providers": {"openai": {"apikey": "x"}},
            "tools": {"mcpServers": {"files": {"comand": "x"}}},
        },
        path=None,
        env={},
    )
    assert set(config.unknown_keys) == {
        "extra",
        "agents.defaults.maxToken",
        "providers.openai.apikey",
        "tools.mcpServers.files.comand",
    }
    assert config.tree["extra"] == 1


def test_a_missing_default_file_means_built_in_defaults(tmp_path: Path) -> None:
    config = load_config(None, env={"HOME": str(tmp_path)})
    assert config.source is None
    assert config.path == tmp_path / ".nanobot" / "config.json"
    assert config == Config(path=config.path)


def test_the_default_file_is_found_in_the_home_folder_of_the_moment(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / ".nanobot").mkdir(parents=True)
        written(tmp_path / name / ".nanobot", {"agents": {"defaults": {"model": name}}})
    models = [
        load_config(None, env={"HOME": str(tmp_path / name)}).agents.defaults.model
        for name in ("a", "b", "a")
    ]
    assert models == ["a", "b", "a"]


def test_a_missing_named_file_is_an_error_even_at_the_default_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Config not found: .*nowhere\.json"):
        load_config(tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match=r"Config not found"):
        load_config("~/.nanobot/config.json", env={"HOME": str(tmp_path)})


def test_a_tilde_in_the_name_is_the_home_folder(tmp_path: Path) -> None:
    written(tmp_path, {})
    assert (
        load_config("~/config.json", env={"HOME": str(tmp_path)}).source == tmp_path / "config.json"
    )


def test_two_configurations_never_see_each_other(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(
            written(
                tmp_path / name, {"providers": {name: {"apiBase": "http://h", "apiKey": "${K}"}}}
            )
        )
    one = load_config(paths[0], env={"K": "first"})
    before = copy.deepcopy(one.tree)
    other = load_config(paths[1], env={"K": "second"})
    assert one.providers["a"].api_key == "first"
    assert list(one.providers) == ["a"]
    assert other.providers["b"].api_key == "second"
    assert one.tree == before


def test_variables_are_replaced_anywhere_in_a_text() -> None:
    config = config_from_tree(
        {
            "providers": {"x": {"apiBase": "https://${HOST}:${PORT}/v1", "apiKey": "${EMPTY}"}},
            "api": {"port": "${PORT}", "timeout": "${PORT}"},
            "tools": {"mcpServers": {"m": {"args": ["--key=${KEY}", "$HOME", "${not a name}"]}}},
        },
        path=None,
        env={"HOST": "h", "PORT": "81", "KEY": "${HOST}", "EMPTY": ""},
    )
    assert config.providers["x"].api_base == "https://h:81/v1"
    assert config.providers["x"].api_key == ""
    assert (config.api.port, config.api.timeout) == (81, 81.0)
    # A value is not looked into again, and only ${NAME} is a reference.
    assert config.tools.mcp_servers["m"].args == ("--key=${HOST}", "$HOME", "${not a name}")
    assert config.tree["api"]["port"] == "${PORT}"


def test_all_missing_variables_are_reported_together() -> None:
    found = issues_of(
        {
            "providers": {"openai": {"apiKey": "${ONE}", "extraHeaders": {"x": "${TWO}"}}},
            "tools": {"mcpServers": {"m": {"args": ["a", "${THREE}"]}}},
            "somethingElse": {"deep": ["${FOUR}"]},
        },
        env={"TWO": "is set"},
    )
    assert found == {
        "providers.openai.apiKey": "the environment variable ONE is not set",
        "tools.mcpServers.m.args.1": "the environment variable THREE is not set",
        "somethingElse.deep.0": "the environment variable FOUR is not set",
    }


def test_every_wrong_value_is_named_with_what_was_expected() -> None:
    found = issues_of(
        {
            "agents": {
                "defaults": {
                    "max_tokens": "many",
                    "temperature": 3,
                    "reasoningEffort": "extreme",
                    "consolidationRatio": 0,
                    "fallbackModels": [7, {"provider": "x"}, {"model": "m", "maxTokens": 0}],
                }
            },
            "modelPresets": {"fast": {}, "slow": "gpt"},
            "providers": {
                "openai": {"apiBase": "localhost:80", "extraHeaders": ["x"], "proxy": "ftp://x"}
            },
            "tools": {"exec": [], "ssrfWhitelist": "10.0.0.0/8"},
            "api": {"port": 70000},
        }
    )
    assert found == {
        "agents.defaults.maxTokens": "expected a whole number, at least 1",
        "agents.defaults.temperature": "expected a number from 0 to 2 or null",
        "agents.defaults.reasoningEffort": "expected one of none, minimal, low, medium, high, xhigh, "
        "max, adaptive or null",
        "agents.defaults.consolidationRatio": "expected a number from 0.1 to 0.95",
        "agents.defaults.fallbackModels.0": "expected an object, written {…}, or text that is not empty",
        "agents.defaults.fallbackModels.1.model": "is missing",
        "agents.defaults.fallbackModels.2.maxTokens": "expected a whole number, at least 1 or null",
        "modelPresets.fast.model": "is missing",
        "modelPresets.slow": "expected an object, written {…}",
        "providers.openai.apiBase": "expected a URL that starts with http:// or https:// or null",
        "providers.openai.extraHeaders": "expected an object, written {…}",
        "providers.openai.proxy": "expected a URL that starts with http://, https:// or socks5:// or null",
        "tools.exec": "expected an object, written {…}",
        "tools.ssrfWhitelist": "expected a list, written […]",
        "api.port": "expected a whole number from 0 to 65535",
    }


def test_the_text_of_an_error_shows_ten_issues_and_counts_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path, {"modelPresets": {f"p{number}": {} for number in range(13)}})
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Invalid configuration: {path}"
    assert len(lines) == 12
    assert lines[-1].strip() == "… and 3 more"


@pytest.mark.parametrize(
    "tree",
    [
        {"providers": {"openai": {"apiKey": 5, "proxy": "CANARY"}}},
        {"agents": {"defaults": {"reasoningEffort": "CANARY", "maxTokens": "CANARY"}}},
        {"agents": {"defaults": {"timezone": "CANARY", "modelPreset": "CANARY"}}},
        {"tools": {"mcpServers": {"m": {"type": "CANARY", "env": {"A": {"x": "CANARY"}}}}}},
        {"sessions": {"store": "CANARY"}},
        {
            "agents": {
                "defaults": {"fallbackModels": ["CANARY"], "dream": {"modelOverride": "CANARY"}}
            }
        },
        {"agents": "CANARY"},
    ],
)
def test_no_value_ever_shows_in_an_error(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_tree(tree, path=None, env={})
    assert "CANARY" not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_key_that_looks_like_no_name_is_hidden() -> None:
    config = config_from_tree({"agents": {"\x1b[31m": 1, "k" * 65: 2, "": 3}}, path=None, env={})
    assert config.unknown_keys == ("agents.<hidden>",) * 3


def test_one_key_in_both_spellings_is_refused() -> None:
    found = issues_of({"agents": {"defaults": {"maxTokens": 1, "max_tokens": 1}}})
    assert found == {"agents.defaults.maxTokens": "stands twice, in camelCase and snake_case"}


def test_presets_that_do_not_exist_are_found_at_load() -> None:
    found = issues_of(
        {
            "agents": {
                "defaults": {
                    "modelPreset": "fasst",
                    "fallbackModels": ["slow", "fast", {"model": "x"}],
                    "dream": {"modelOverride": "night"},
                }
            },
            "modelPresets": {"fast": {"model": "x"}},
        }
    )
    assert set(found) == {
        "agents.defaults.modelPreset",
        "agents.defaults.fallbackModels.0",
        "agents.defaults.dream.modelOverride",
    }
    assert all("known: fast" in message for message in found.values())
    assert '{"model": ' in found["agents.defaults.fallbackModels.0"]  # or a model is what was meant


def test_the_name_default_is_reserved_for_the_direct_fields() -> None:
    assert set(issues_of({"modelPresets": {"default": {"model": "x"}}})) == {"modelPresets.default"}
    config = config_from_tree(
        {"agents": {"defaults": {"modelPreset": "default"}}}, path=None, env={}
    )
    assert config.agents.defaults.model_preset == "default"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "America", "UTC+25:00x"])
def test_a_time_zone_must_exist(zone: str) -> None:
    assert set(issues_of({"agents": {"defaults": {"timezone": zone}}})) == {
        "agents.defaults.timezone"
    }


def test_one_provider_under_two_spellings_is_refused() -> None:
    found = issues_of({"providers": {"lm_studio": {}, "lmStudio": {}}})
    assert found == {"providers.lmStudio": "is the same provider as lm_studio; keep one"}


@pytest.mark.parametrize("spelling", ["restrictToWorkspace", "restrict_to_workspace"])
def test_old_keys_move_to_where_they_live_now(spelling: str) -> None:
    config = config_from_tree(
        {
            "tools": {"exec": {spelling: False, "timeout": 5}, "myEnabled": True, "my_set": False},
            "agents": {"defaults": {"session_ttl_minutes": 3}},
        },
        path=None,
        env={},
    )
    assert config.tools.restrict_to_workspace is False
    assert config.agents.defaults.idle_compact_after_minutes == 3
    assert config.unknown_keys == ()
    assert config.tree == {
        "tools": {
            "exec": {"timeout": 5},
            "restrictToWorkspace": False,
            "my": {"enable": True, "allowSet": False},
        },
        "agents": {"defaults": {"idleCompactAfterMinutes": 3}},
    }


def test_a_new_key_wins_over_its_old_place() -> None:
    config = config_from_tree(
        {"tools": {"restrict_to_workspace": True, "exec": {"restrictToWorkspace": False}}},
        path=None,
        env={},
    )
    assert config.tools.restrict_to_workspace is True
    assert config.tree == {"tools": {"restrictToWorkspace": True, "exec": {}}}


def test_a_migration_leaves_the_tree_it_was_given_alone() -> None:
    tree = {"tools": {"exec": {"restrictToWorkspace": False}}}
    before = copy.deepcopy(tree)
    config_from_tree(tree, path=None, env={})
    assert tree == before


def test_a_tree_for_editing_needs_no_variables(tmp_path: Path) -> None:
    path = written(tmp_path, {"providers": {"x": {"api_key": "${NOWHERE}"}}})
    assert read_tree(path) == {"providers": {"x": {"apiKey": "${NOWHERE}"}}}
