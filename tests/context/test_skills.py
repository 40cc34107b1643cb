"""Skills are told by name and description, whatever the file looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.context import Skill
from nanobot.context._skills import skill_from_text, skills_text


def described(frontmatter: str) -> tuple[str, str]:
    skill = skill_from_text(f"---\n{frontmatter}\n---\n# Body\n", folder="folder")
    return skill.name, skill.description


@pytest.mark.parametrize(
    ("frontmatter", "expected"),
    [
        ("name: pdf\ndescription: Read PDF files", ("pdf", "Read PDF files")),
        ("name: \"pdf\"\ndescription: 'it''s \"easy\": really'", ("pdf", 'it\'s "easy": really')),
        ('name: pdf\ndescription: "say \\"hi\\"\\tnow: yes"', ("pdf", 'say "hi" now: yes')),
        ("name: pdf\ndescription: >-\n  folded\n  text\n\n  here", ("pdf", "folded text here")),
        ("description: |\n  line one\n  line two\nname: pdf", ("pdf", "line one line two")),
        ("name: pdf\ndescription: plain over\n  two lines", ("pdf", "plain over two lines")),
        ("name: pdf\ndescription:\n  on the next line", ("pdf", "on the next line")),
        ("name: pdf # the name\ndescription: C# and #1", ("pdf", "C# and")),
        ("description: only that", ("folder", "only that")),
        ("name: pdf", ("pdf", "Body")),
        ("# a comment\nname: pdf\nmetadata:\n  name: inner\n  description: inner", ("pdf", "Body")),
        ("name: one\nname: two\ndescription: x", ("two", "x")),
        ("name:\ndescription:", ("folder", "Body")),
        ('name: "unfinished\ndescription: "bad \\q escape"', ("unfinished", "bad \\q escape")),
        ("- a list\n- not a mapping", ("folder", "Body")),
        ("name: pdf\r\ndescription: windows\r", ("pdf", "windows")),
    ],
)
def test_frontmatter_is_read(frontmatter: str, expected: tuple[str, str]) -> None:
    assert described(frontmatter) == expected


@pytest.mark.parametrize("text", ["# My skill\n\nDo it.", "\n\n   My skill\n", "--\nMy skill"[3:]])
def test_without_frontmatter_the_folder_names_it_and_the_first_line_describes_it(text: str) -> None:
    assert skill_from_text(text, folder="mine") == Skill("mine", "My skill", "skills/mine/SKILL.md")


def test_a_frontmatter_that_never_ends_is_text() -> None:
    assert skill_from_text("---\nname: x\ndescription: y", folder="f").name == "f"


def test_an_empty_file_is_a_skill_without_description() -> None:
    skill = skill_from_text("", folder="f")
    assert skill == Skill("f", "", "skills/f/SKILL.md")
    assert skills_text([skill]).splitlines()[1:] == ["- f (skills/f/SKILL.md)"]


def test_the_list_has_one_line_per_skill_and_says_what_is_left_out() -> None:
    listed = skills_text(
        [Skill("a", "Does a", "skills/a/SKILL.md"), Skill("b", "Does b", "skills/b/SKILL.md")],
        left_out=3,
    )
    assert listed.splitlines()[1:] == [
        "- a (skills/a/SKILL.md): Does a",
        "- b (skills/b/SKILL.md): Does b",
        "- … and 3 more under skills/",
    ]
    assert skills_text([]) == ""


@given(st.text(), st.text())
def test_any_file_makes_one_short_line(text: str, folder: str) -> None:
    for content in (text, f"---\n{text}\n---\n", f"---\nname: {text}\ndescription: {text}\n---\n"):
        skill = skill_from_text(content, folder=folder)
        assert len(skill.name) <= 64
        assert len(skill.description) <= 1024
        assert len(skills_text([skill]).splitlines()) == 2
