"""Names of MCP tools: what every vendor accepts, each its own, whoever comes first."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from nanobot.tools.mcp._names import is_enabled, tool_names

PAIRS = st.lists(st.tuples(st.text(max_size=70), st.text(max_size=70)), unique=True, max_size=8)
NEAR = st.lists(
    st.tuples(st.sampled_from(["a", "a_b", "a b"]), st.sampled_from(["b", "c", "b_c", "b.c"])),
    unique=True,
)


def test_a_plain_name_is_server_and_tool() -> None:
    assert tool_names([("files", "read_file")]) == {("files", "read_file"): "mcp_files_read_file"}


def test_what_no_vendor_accepts_becomes_an_underscore() -> None:
    assert tool_names([("my server", "get.käse")]) == {
        ("my server", "get.käse"): "mcp_my_server_get_k_se"
    }


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    first, second = tool_names([("s", "x" * 80 + "1"), ("s", "x" * 80 + "2")]).values()
    assert len(first) == len(second) == 64
    assert first != second
    assert first.startswith("mcp_s_xxx")


def test_two_that_would_share_a_name_both_get_another() -> None:
    names = tool_names([("a_b", "c"), ("a", "b_c"), ("a", "d")])
    assert names["a", "d"] == "mcp_a_d"
    assert {name[:-8] for name in (names["a_b", "c"], names["a", "b_c"])} == {"mcp_a_b_c_"}
    assert names["a_b", "c"] != names["a", "b_c"]


def test_a_name_that_another_tool_has_is_not_taken() -> None:
    (name,) = tool_names([("a", "b")], taken={"mcp_a_b"}).values()
    assert name.startswith("mcp_a_b_")


def test_a_server_that_guesses_the_digest_of_another_tool_gains_nothing() -> None:
    digested = tool_names([("a", "b.c"), ("a", "b c")])["a", "b.c"]
    thief = digested.removeprefix("mcp_a_")
    names = tool_names([("a", "b.c"), ("a", "b c"), ("a", thief)])
    assert len(set(names.values())) == len(names)
    assert ("a", "b c") in names


@given(PAIRS | NEAR)
def test_names_are_acceptable_and_unique_and_do_not_depend_on_order(
    pairs: list[tuple[str, str]],
) -> None:
    names = tool_names(pairs)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names.values())
    assert len(set(names.values())) == len(names)
    assert tool_names(reversed(pairs)) == names


def test_enabled_tools_may_be_named_as_the_server_or_as_the_model_does() -> None:
    assert is_enabled("s", "t", ["*"])
    assert is_enabled("s", "t", ["t"])
    assert is_enabled("s", "t", ["mcp_s_t"])
    assert not is_enabled("s", "t", ["u"])
    assert not is_enabled("s", "t", [])
