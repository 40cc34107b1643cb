"""What guards the tools is checked when the configuration is read, not when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanobot.config import InvalidConfig, config_from_tree


def config_of(tools: dict[str, Any]) -> Any:
    return config_from_tree({"tools": tools}, path=Path("config.json"), env={})


@pytest.mark.parametrize(
    ("tools", "where"),
    [
        ({"exec": {"denyPatterns": ["ok", "("]}}, "tools.exec.denyPatterns.1"),
        ({"exec": {"allowPatterns": ["*"]}}, "tools.exec.allowPatterns.0"),
        ({"exec": {"sandbox": "jail"}}, "tools.exec.sandbox"),
        ({"ssrfWhitelist": ["10.0.0.0/8", "localhost"]}, "tools.ssrfWhitelist.1"),
        ({"ssrfWhitelist": ["10.0.0.0/33"]}, "tools.ssrfWhitelist.0"),
    ],
)
def test_a_guard_that_cannot_be_understood_is_refused(tools: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidConfig, match=where.replace(".", r"\.")):
        config_of(tools)


def test_guards_that_can_be_understood_are_kept() -> None:
    tools = config_of(
        {
            "exec": {"denyPatterns": ["git push"], "sandbox": "bwrap"},
            "ssrfWhitelist": ["10.0.0.1", "10.0.0.1/8", "fc00::/7"],
        }
    ).tools
    assert tools.exec.deny_patterns == ("git push",)
    assert tools.exec.sandbox == "bwrap"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, None),
        ({"restrictToWorkspace": None}, None),
        ({"restrictToWorkspace": True}, True),
        ({"restrictToWorkspace": False}, False),
    ],
)
def test_whether_the_restriction_was_asked_for_is_known(
    written: dict[str, Any], read: bool | None
) -> None:
    assert config_of(written).tools.restrict_to_workspace is read
