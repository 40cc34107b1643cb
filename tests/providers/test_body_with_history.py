"""The history comes into a body last, where the other fields are JSON already."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import UserMessage
from nanobot.providers import ModelRequest
from nanobot.providers._request_body import HISTORY, body_with_history, json_bytes
from nanobot.providers.openai_chat._encode import encode_body, encode_message

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from('\0\\"[],'))
VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(
    before=st.dictionaries(TEXTS.map(lambda t: f"a{t}"), VALUES, max_size=3),
    after=st.dictionaries(TEXTS.map(lambda t: f"z{t}"), VALUES, max_size=3),
    history=st.lists(VALUES, max_size=4),
)
def test_it_is_as_if_all_had_been_encoded_together(
    before: dict[str, Any], after: dict[str, Any], history: list[Any]
) -> None:
    fields = {**before, "messages": HISTORY, **after}
    body = body_with_history(fields, [json_bytes(each) for each in history])
    assert json.loads(body) == {**before, "messages": history, **after}
    assert body == json_bytes({**before, "messages": history, **after})


def test_halves_of_characters_elsewhere_do_no_harm() -> None:
    body = body_with_history({"model": "m\ud800", "messages": HISTORY}, [b"1"])
    assert json.loads(body)["messages"] == [1]


@pytest.mark.parametrize("extra", [{"messages": []}, {"messages": {"none": "at all"}}])
def test_whoever_puts_something_else_in_its_place_has_it_sent(extra: dict[str, Any]) -> None:
    request = ModelRequest("m", (UserMessage("hello"),), extra_body=extra)
    body = encode_body(request, [encode_message(UserMessage("hello"))], b"[]")
    assert json.loads(body)["messages"] == extra["messages"]
