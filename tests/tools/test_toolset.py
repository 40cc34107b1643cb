"""The tools of a run, by name."""

from __future__ import annotations

import random
from typing import Any

import pytest

from nanobot.errors import UsageError
from nanobot.tools import Tool, Toolset, tool


def named(name: str) -> Tool:
    @tool(name=name)
    def function() -> None: ...

    return function


def test_specs_are_sorted_by_name_so_that_the_prompt_is_the_same_in_any_order() -> None:
    tools = [named(name) for name in ("write", "exec", "list", "a-b", "Zed")]
    expected = Toolset(tools).specs
    assert [spec.name for spec in expected] == ["Zed", "a-b", "exec", "list", "write"]
    random.shuffle(tools)
    assert Toolset(tools).specs == expected


def test_tools_keep_the_order_they_were_given_in() -> None:
    toolset = Toolset([named("b"), named("a")])
    assert toolset.names == ("b", "a")
    assert [each.spec.name for each in toolset] == ["b", "a"]
    assert len(toolset) == 2
    assert repr(toolset) == "Toolset(b, a)"


def test_two_tools_of_one_name_are_refused_and_both_named() -> None:
    @tool(name="list_dir")
    def mine() -> None: ...

    @tool(name="list_dir")
    def theirs() -> None: ...

    with pytest.raises(UsageError) as caught:
        Toolset([mine, named("x"), theirs])
    assert mine.origin in str(caught.value)
    assert theirs.origin in str(caught.value)
    assert "'list_dir'" in str(caught.value)


def test_more_tools_make_another_toolset() -> None:
    few = Toolset([named("b")])
    more = few.with_tools([named("a")])
    assert (few.names, more.names) == (("b",), ("b", "a"))
    assert more.get("a") is not None
    assert few.get("a") is None
    assert "a" in more
    with pytest.raises(UsageError, match="Two tools are called 'b'"):
        more.with_tools([named("b")])


@pytest.mark.parametrize("thing", [print, "list_dir", None, lambda: 1])
def test_what_is_no_tool_is_refused(thing: Any) -> None:
    with pytest.raises(UsageError, match="is no tool"):
        Toolset([thing])
