"""The linear engine: it finds what `re.search` finds, and looks at each character once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nanobot.tools.builtin._linear_regex import LinearRegex, NotRegular

ATOMS = st.sampled_from([
    *("a", "b", "k", "é", "ß", "İ", "\u017f", "\u212a", "\u0301", "[^a]", "[a-bé]", "[\u017f-ẞ]", ".", r"\.", "(?:)"),
    *(r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"[\w-]", r"[^\s]", r"(?a:\w)", r"(?-i:b)", "(?s:.)"),
    *("^", "$", r"\b", r"\B", r"\A", r"\Z", r"(?a:\b)", "(?m:^)", "(?m:$)"),
])  # fmt: skip
QUANTIFIERS = st.sampled_from(
    ["*", "+", "?", "*?", "+?", "??", "{2}", "{,2}", "{1,3}", "{2,}", "{1,2}?", "{0}"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inside: st.one_of(
        st.tuples(inside, inside).map("".join),
        st.tuples(inside, inside).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        inside.map(lambda one: f"({one}|)"),
        inside.map(lambda one: f"(?i:{one})"),
        st.tuples(inside, QUANTIFIERS).map(lambda two: f"({two[0]}){two[1]}"),
    ),
    max_leaves=8,
)
TEXTS = st.text(alphabet="abAB1_.- éÉßẞ\u017fsSİikK\u212a\u0301字٣\t\r\udcff", max_size=12)


@settings(max_examples=500)
@example(pattern=r"\B", text="", flags=0, most_kept=1)
@example(pattern=r"b|abc*$|abc", text="abcd", flags=0, most_kept=100)
@example(pattern="(?i:\u017f)(?a:\\w)", text="Ss", flags=0, most_kept=100)
@example(pattern="a(?i:a)", text="aA", flags=0, most_kept=100)
@example(pattern="(?i:a)a", text="AA", flags=0, most_kept=100)
@given(
    pattern=PATTERNS,
    text=TEXTS,
    flags=st.sampled_from([0, re.I, re.A, re.M, re.S | re.I]),
    most_kept=st.sampled_from([1, 20, 100_000]),
)
def test_it_finds_where_the_leftmost_match_begins(
    pattern: str, text: str, flags: int, most_kept: int
) -> None:
    try:
        found = re.search(pattern, text, flags)
    except re.error:
        assume(False)
    engine = LinearRegex(pattern, flags, most_kept=most_kept)
    for _ in range(2):  # states made, and states found
        assert engine.start(text) == (None if found is None else found.start())


class Counted(str):
    """A text that counts how often its characters are read, from its end."""

    read = 0

    def __getitem__(self, index: object) -> Counted:
        assert index == slice(None, None, -1)
        backwards = Counted(str(self)[::-1])
        self.backwards = backwards
        return backwards

    def __iter__(self) -> Iterator[str]:
        for character in str(self):
            self.read += 1
            yield character


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(a+)+$", "a" * 200_000 + "!"),
        (r"(a|aa)+$", "a" * 200_000 + "!"),
        (r"(a|a?)+c", "a" * 200_000 + "!"),
        (r"(.*)*x", "a" * 200_000),
        (r"(.*a){20}$", "a" * 200_000 + "!"),
        (r"^(\w+\s?)*$", "ab " * 70_000 + "!"),
        (r"(\w+\s*)+:", "ab " * 70_000),
        (r"(x+x+)+y", "x" * 200_000),
        (r"a*a*a*a*a*b", "a" * 200_000),
        (r"(?:ab|ab){30}c", "ab" * 100_000),
    ],
)
def test_each_character_is_looked_at_once_and_leads_to_few_states(pattern: str, text: str) -> None:
    counted = Counted(text)
    engine = LinearRegex(pattern)
    assert engine.start(counted) is None
    assert counted.backwards.read == len(text)
    assert engine._any.kept < 5_000  # what was worked out; all else was looked up


def test_a_line_that_matches_is_read_twice() -> None:
    counted = Counted("a" * 10_000 + "!" + "a" * 10_000)
    assert LinearRegex("(a+)+$").start(counted) == 10_001
    assert counted.backwards.read == 2 * 20_001


def test_what_is_kept_is_bounded_when_each_character_leads_to_a_new_state() -> None:
    text = "".join("ab"[n * n % 7919 % 2] for n in range(5_000))
    engine = LinearRegex("x(a|b){12}a", most_kept=1_000)
    assert engine.start(text[:20]) is None
    early = [state for state in engine._any._states.values() if state]
    assert len(early) > 0
    assert engine.start(text) is None
    assert engine._any.kept < 1_100
    assert sum(map(len, engine._any._states.values())) < 1_100
    left = sum(map(len, early))  # apart, for states lead to each other and are long to print
    assert left == 0
    assert engine.start(text + "x" + "b" * 12 + "a") == 5_000


@pytest.mark.parametrize(
    "pattern",
    [r"(a)\1", r"(?P<x>a)(?P=x)", r"(a)?(?(1)b|c)", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "a*+", "(?>a|ab)"],
)  # fmt: skip
def test_what_remembers_or_looks_around_is_not_regular(pattern: str) -> None:
    re.compile(pattern)
    with pytest.raises(NotRegular):
        LinearRegex(pattern)


@pytest.mark.parametrize("pattern", ["((a{100}){100}){100}", "a{30000}", "(?:|){100000000}", "("])
def test_what_is_too_large_or_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(re.error):
        LinearRegex(pattern)


@pytest.mark.parametrize("pattern", ["(?:){4294967294}", "(?:(?:){0,9999999}){9999999}x?"])
def test_nothing_repeated_is_nothing(pattern: str) -> None:
    assert LinearRegex(pattern).start("a") == 0
