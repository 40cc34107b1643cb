"""Schemas as services take them that enforce them, and where the three formats put them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from nanobot.messages import UserMessage
from nanobot.providers import ModelRequest, OutputFormat, strict_schema
from nanobot.providers.anthropic import _encode as anthropic
from nanobot.providers.openai_chat import _encode as chat
from nanobot.providers.openai_responses import _encode as responses
from nanobot.tools._schema import schema_of


class Item(msgspec.Struct):
    name: Annotated[str, Meta(description="What it is", min_length=1)]
    price: Annotated[float, Meta(gt=0)] | None = None
    kind: Literal["a", "b", 3] = "a"


@dataclass
class Cart:
    items: list[Item]
    note: str = ""
    tags: list[str] = field(default_factory=list)


def test_every_member_is_required_and_no_other_allowed() -> None:
    strict = strict_schema(schema_of(Cart, "here"))
    assert strict is not None
    assert strict["required"] == ["items", "note", "tags"]
    assert strict["additionalProperties"] is False
    item = strict["properties"]["items"]["items"]
    assert item["required"] == ["name", "price", "kind"]
    assert item["additionalProperties"] is False


def test_bounds_and_defaults_are_said_in_words() -> None:
    strict = strict_schema(schema_of(Cart, "here"))
    assert strict is not None
    item = strict["properties"]["items"]["items"]["properties"]
    assert item["name"] == {"description": "What it is; at least 1 characters", "type": "string"}
    assert {"type": "null"} in item["price"]["anyOf"]
    assert {"type": "number", "description": "more than 0"} in item["price"]["anyOf"]


@pytest.mark.parametrize(
    "kind",
    [dict[str, int], tuple[int, str], Any, list[Any], list[dict[str, int]]],
    ids=str,
)
def test_what_it_cannot_say_has_none(kind: Any) -> None:
    assert strict_schema(schema_of(kind, "here")) is None


def test_only_known_words_are_in_it() -> None:
    known = {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum"}

    def words(schema: dict[str, Any]) -> None:
        assert schema.keys() <= known | {"description", "format"}, schema
        assert "type" in schema or "anyOf" in schema
        for part in (*schema.get("properties", {}).values(), *schema.get("anyOf", ())):
            words(part)
        if "items" in schema:
            words(schema["items"])

    strict = strict_schema(schema_of(Cart, "here"))
    assert strict is not None
    words(strict)


FORMAT = OutputFormat("Cart", {"type": "object", "properties": {}, "required": []})
REQUEST = ModelRequest("claude-opus-5", [UserMessage("x")], output=FORMAT, reasoning_effort="low")


def test_chat_completions_take_it_as_a_response_format() -> None:
    body = json.loads(chat.encode_body(REQUEST, [], b"[]"))
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "Cart", "schema": FORMAT.schema, "strict": True},
    }


def test_responses_take_it_as_the_format_of_text() -> None:
    body = json.loads(responses.encode_body(REQUEST, [], b"[]"))
    assert body["text"]["format"] == {
        "type": "json_schema",
        "name": "Cart",
        "schema": FORMAT.schema,
        "strict": True,
    }


def test_messages_take_it_beside_the_effort() -> None:
    body = json.loads(anthropic.encode_body(REQUEST, [], (), provider="anthropic"))
    assert body["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": FORMAT.schema},
    }


@pytest.mark.parametrize("without", [ModelRequest("m", [UserMessage("x")])])
def test_without_one_nothing_is_said_of_it(without: ModelRequest) -> None:
    assert b"json_schema" not in chat.encode_body(without, [], b"[]")
    assert b"json_schema" not in responses.encode_body(without, [], b"[]")
    assert b"json_schema" not in anthropic.encode_body(without, [], (), provider="anthropic")
