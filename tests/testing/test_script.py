"""Where answers come from, and what happens when there are none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from nanobot.errors import UsageError
from nanobot.testing import ScriptExhausted, by_session
from nanobot.testing._script import ScriptFunction, function_from_script


def function_of(script: Any) -> ScriptFunction[Sequence[str], str]:
    """A script whose requests are the user's texts themselves."""
    return function_from_script(
        script, owner="the script", check=refuse_numbers, user_texts=lambda request: request
    )


def refuse_numbers(item: object) -> None:
    if isinstance(item, int):
        raise UsageError(f"{item} is a number")


def test_a_list_is_taken_in_order_and_then_says_that_it_is_over() -> None:
    answer = function_of(["a", "b"])
    assert [answer([]), answer([])] == ["a", "b"]
    with pytest.raises(ScriptExhausted, match="the script has 2 answers, all given"):
        answer([])


def test_running_out_of_answers_is_a_failed_assertion() -> None:
    assert issubclass(ScriptExhausted, AssertionError)


def test_an_iterable_without_end_answers_without_end() -> None:
    answer = function_of(itertools.repeat("ok"))
    assert {answer([]) for _ in range(1000)} == {"ok"}


def test_a_function_is_asked_with_the_request() -> None:
    assert function_of(lambda texts: texts[-1].upper())(["hi"]) == "HI"


def test_a_wrong_item_in_a_list_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UsageError, match="3 is a number"):
        function_of(["a", 3])


@pytest.mark.parametrize("script", ["a bare text", b"bytes", {"a": "mapping"}, 7, None])
def test_what_is_no_script_is_refused_with_the_way_out(script: Any) -> None:
    with pytest.raises(UsageError, match="needs a list of answers"):
        function_of(script)


def test_each_session_has_its_own_answers_in_any_order_of_requests() -> None:
    answer = function_of(by_session({"Alice": ["a1", "a2"], "Bob": ["b1"]}))
    alice, bob = ["I am Alice."], ["I am Bob."]
    assert [answer(alice), answer(bob), answer([*alice, "and more"])] == ["a1", "b1", "a2"]
    with pytest.raises(ScriptExhausted, match="session 'Bob', has 1 answers"):
        answer(bob)


def test_a_session_key_counts_only_as_a_whole_word() -> None:
    answer = function_of(by_session({"user:1": ["one"], "user:10": ["ten"]}))
    assert answer(["hello from user:10"]) == "ten"
    assert answer(["hello from user:1, still"]) == "one"


@pytest.mark.parametrize("texts", [["nobody"], ["Alice meets Bob"], ["Alice", "Bob"], []])
def test_a_request_that_fits_no_session_or_several_is_named(texts: list[str]) -> None:
    answer = function_of(by_session({"Alice": ["a"], "Bob": ["b"]}))
    with pytest.raises(UsageError, match="exactly one of its keys"):
        answer(texts)
