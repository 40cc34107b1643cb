"""The prompt is short, stable, and says what it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanobot.context import (
    COMPACT,
    FULL,
    PromptProfile,
    Section,
    Skill,
    SystemPrompt,
    WorkspaceTexts,
    estimate_text,
    exact_counter,
    join_sections,
    system_prompt,
)
from nanobot.memory import HistoryLog

TEXTS = WorkspaceTexts(
    agents="the agents",
    soul="the soul",
    user="the user",
    memory="the memory",
    skills=(Skill("pdf", "Reads PDFs", "skills/pdf/SKILL.md"),),
)


@pytest.mark.parametrize(("profile", "most"), [(FULL, 500), (COMPACT, 120)])
def test_our_own_words_are_few(profile: PromptProfile, most: int) -> None:
    prompt = system_prompt(profile, Path("/home/alice/workspace"), WorkspaceTexts())
    assert estimate_text(prompt) <= most
    if (count := exact_counter()) is not None:
        assert count(prompt) <= most


@pytest.mark.parametrize("profile", [FULL, COMPACT])
def test_the_workspace_is_named_and_its_words_follow_what_changes_most_last(
    profile: PromptProfile,
) -> None:
    prompt = system_prompt(profile, Path("/home/{workspace}/x"), TEXTS)
    assert "/home/{workspace}/x" in prompt
    shown = [
        "# AGENTS.md\nthe agents",
        "# SOUL.md\nthe soul",
        "# USER.md\nthe user",
        "skills/pdf/SKILL.md",
        "the memory",
    ]
    places = [prompt.index(text) for text in shown]
    assert places == sorted(places)


def test_what_is_not_there_has_no_heading() -> None:
    prompt = system_prompt(FULL, Path("/w"), WorkspaceTexts(soul="the soul"))
    assert "# SOUL.md" in prompt
    assert "# AGENTS.md" not in prompt
    assert "# Skills" not in prompt


def test_a_tiny_model_gets_little_of_a_long_file() -> None:
    long = WorkspaceTexts(agents="word " * 5_000)
    assert len(system_prompt(COMPACT, Path("/w"), long)) < 3_000
    assert "more characters]" in system_prompt(COMPACT, Path("/w"), long)
    assert "more characters]" not in system_prompt(FULL, Path("/w"), long)


def test_a_workspace_with_a_name_that_is_no_text_does_not_make_a_request_impossible() -> None:
    system_prompt(FULL, Path("/caf\udce9"), WorkspaceTexts()).encode()


def test_sections_are_joined_in_order_and_empty_ones_left_out() -> None:
    joined = join_sections([Section("", "first"), Section("Two", ""), Section("Three", "third")])
    assert joined == "first\n\n# Three\nthird"
    assert join_sections([]) == ""


async def test_the_prompt_is_the_same_object_until_a_file_changes(tmp_path: Path) -> None:
    prompt = SystemPrompt(tmp_path)
    first = await prompt.text()
    assert await prompt.text() is first
    (tmp_path / "AGENTS.md").write_text("be brief")
    second = await prompt.text()
    assert second != first
    assert "be brief" in second
    assert await prompt.text() is second


async def test_sections_of_one_session_come_last_and_leave_the_rest_alone(tmp_path: Path) -> None:
    prompt = SystemPrompt(tmp_path, profile=COMPACT)
    plain = await prompt.text()
    assert await prompt.text([Section("Summary", "earlier")]) == f"{plain}\n\n# Summary\nearlier"
    assert await prompt.text() is plain


async def test_a_history_that_grows_leaves_the_prompt_the_object_that_it_was(
    tmp_path: Path,
) -> None:
    prompt = SystemPrompt(tmp_path)
    before = await prompt.text()
    HistoryLog(tmp_path / "memory").append("Something happened.")
    assert await prompt.text() is before
    assert [entry.content for entry in prompt.history] == ["Something happened."]
