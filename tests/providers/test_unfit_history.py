"""What a model has called, or a transcript holds, spoils no later request: each wire format writes it so that it is accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nanobot.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from nanobot.providers import ModelRequest
from nanobot.providers.anthropic import _encode as anthropic
from nanobot.providers.openai_chat import _encode as openai_chat
from nanobot.providers.openai_responses import _encode as openai_responses
from nanobot.testing import assert_legal_request


def bodies(history: list[Message]) -> dict[Any, dict[str, Any]]:
    request = ModelRequest("m", history)
    chat = [openai_chat.encode_message(message) for message in history]
    items = [openai_responses.encode_message(message, provider="p") for message in history]
    blocks = [anthropic.encode_message(message, provider="p") for message in history]
    return {
        "openai_chat": json.loads(openai_chat.encode_body(request, chat, b"[]")),
        "openai_responses": json.loads(openai_responses.encode_body(request, items, b"[]")),
        "anthropic": json.loads(anthropic.encode_body(request, blocks, (), provider="p")),
    }


@pytest.mark.parametrize(
    "name", ["functions.exec", "exec<|channel|>json", "no such tool", "", "a" * 80]
)
def test_a_tool_that_there_cannot_be(name: str) -> None:
    call = AssistantMessage(tool_calls=(ToolCall("id1", name, "{}"),))
    result = ToolMessage("id1", name, "There is no such tool.")
    for wire, body in bodies([UserMessage("Hi"), call, result, UserMessage("And now?")]).items():
        assert_legal_request(body, wire=wire)


@pytest.mark.parametrize(
    "empty", [UserMessage(""), UserMessage(()), SystemMessage("")], ids=["text", "parts", "system"]
)
def test_a_message_that_says_nothing(empty: Message) -> None:
    history = [UserMessage("Hi"), empty, AssistantMessage("Hello"), UserMessage("And now?")]
    for wire, body in bodies(history).items():
        assert_legal_request(body, wire=wire)
