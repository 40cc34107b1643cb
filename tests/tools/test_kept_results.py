"""Results that are too long to show are kept as files, under safe names, and not for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import ToolError
from nanobot.tools import Workspace, remove_old_results, remove_old_results_soon
from nanobot.tools._kept_results import KEPT_FOR_S, keep_result, safe_name


@pytest.fixture
def workspace(root: Path) -> Workspace:
    return Workspace(root)


@pytest.mark.parametrize("text", ["call_1", "toolu_01A-b.c", "x" * 80])
def test_plain_names_stay_as_they_are(text: str) -> None:
    assert safe_name(text) == text


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", ".hidden", "../../etc", "a/b", "user:alice", "ä", "x" * 500, "\0", "\ud800"],
)
def test_other_names_are_made_plain_and_stay_apart(text: str, workspace: Workspace) -> None:
    name = safe_name(text)
    assert len(name) <= 80
    assert name == safe_name(name)
    keep_result(workspace, text, text, "kept")
    assert [
        path.read_text() for path in (workspace.root / ".nanobot/tool-results").glob("*/*.txt")
    ] == ["kept"]


@given(st.text(max_size=100), st.text(max_size=100))
def test_two_texts_never_share_a_name(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_a_second_result_of_one_call_id_does_not_replace_the_first(
    workspace: Workspace, root: Path
) -> None:
    paths = [
        keep_result(workspace, "s", "call_0", text)
        for text in ("first", "second", "first", "second")
    ]
    assert paths[0] == ".nanobot/tool-results/s/call_0.txt"
    assert paths[1] == paths[3]
    assert [(root / path).read_text() for path in paths] == ["first", "second", "first", "second"]
    assert (root / paths[2]).read_text() == "first"


def test_a_result_that_cannot_be_kept_says_why(workspace: Workspace, root: Path) -> None:
    (root / ".nanobot").write_text("in the way")
    with pytest.raises(ToolError, match="a part of this path is a file"):
        keep_result(workspace, "s", "1", "text")


def test_old_results_are_removed_and_young_ones_stay(workspace: Workspace, root: Path) -> None:
    place = root / ".nanobot" / "tool-results"
    for session, call, age_s in [
        ("a", "old", 2.0),
        ("a", "young", 0.5),
        ("b", "old", 2.0),
        ("b", "older", 3.0),
    ]:
        path = root / keep_result(workspace, session, call, "text")
        moment = time.time() - age_s * KEPT_FOR_S
        os.utime(path, (moment, moment))
    (place / "a file").write_text("not ours")
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "old.txt").write_text("not ours")
    os.utime(outside / "old.txt", (0, 0))
    (place / "link").symlink_to(outside)
    assert remove_old_results(workspace) == 3
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == [
        "a",
        "a file",
        "a/young.txt",
        "link",
    ]
    assert (outside / "old.txt").exists()
    assert remove_old_results(workspace) == 0


async def test_a_cancel_ends_the_work_between_two_folders(workspace: Workspace, root: Path) -> None:
    for session in "abc":
        os.utime(root / keep_result(workspace, session, "1", "text"), (0, 0))
    with trio.CancelScope() as scope:
        scope.cancel()
        await remove_old_results_soon(workspace)
    assert scope.cancelled_caught
    place = root / ".nanobot" / "tool-results"
    assert len([*place.iterdir()]) == 3  # noqa: ASYNC240 - three names
    await remove_old_results_soon(workspace)
    assert [*place.iterdir()] == []  # noqa: ASYNC240 - none


def test_where_nothing_was_kept_nothing_is_removed(workspace: Workspace) -> None:
    assert remove_old_results(workspace) == 0
