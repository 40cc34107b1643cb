"""Failing a test over a history that a model service would refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nanobot.context import shown_messages
from nanobot.messages import Message, UserMessage, messages_from_openai, to_openai
from nanobot.providers import ModelRequest
from nanobot.providers._request_body import fitting_tool_name, legal_arguments
from nanobot.providers.anthropic import _encode as anthropic
from nanobot.providers.openai_chat import _encode as openai_chat
from nanobot.providers.openai_responses import _encode as openai_responses

from ._strict_rules import (
    Wire,
    anthropic_problems,
    openai_chat_problems,
    openai_responses_problems,
)

__all__ = ["assert_legal_history", "assert_legal_request"]

_RULES: Final = {
    "openai_chat": openai_chat_problems,
    "openai_responses": openai_responses_problems,
    "anthropic": anthropic_problems,
}
_NEXT: Final = UserMessage("And now?")


def assert_legal_history(history: Sequence[Message | Mapping[str, Any]]) -> None:
    """Fail unless every service would accept the history and another question behind it.

    The history is looked at as it is, by the rules of chat completions, and then as nanobot would send it to a chat
    completions service, a Responses service and a Messages service, by the rules of each. What a model has called is kept as
    the model wrote it, and an assistant who spoke first stays the first: both are judged as they would be sent.

    Args:
      history: Messages as in `SessionSnapshot.messages` or `RunResult.messages`, or nanobot's own. An empty one is legal.

    Raises:
      AssertionError: Names each rule that is broken, and where.
    """
    dicts = [message if isinstance(message, Mapping) else to_openai(message) for message in history]
    if dicts:
        _refuse("as it is", openai_chat_problems({"messages": [*map(_calls_as_sent, dicts)]}))
    messages = shown_messages("", messages_from_openai(dicts), _NEXT)
    request = ModelRequest("any", messages)
    chat = [openai_chat.encode_message(message) for message in messages]
    assert_legal_request(
        json.loads(openai_chat.encode_body(request, chat, b"[]")), wire="openai_chat"
    )
    items = [openai_responses.encode_message(message, provider="any") for message in messages]
    assert_legal_request(
        json.loads(openai_responses.encode_body(request, items, b"[]")), wire="openai_responses"
    )
    blocks = [anthropic.encode_message(message, provider="any") for message in messages]
    assert_legal_request(
        json.loads(anthropic.encode_body(request, blocks, (), provider="any")), wire="anthropic"
    )


def assert_legal_request(body: Mapping[str, Any], *, wire: Wire) -> None:
    """Fail unless a strict service of this wire format would accept what is said in a request's body.

    Args:
      body: The JSON object that was sent, as in `RecordedRequest.json`.
      wire: The format: "openai_chat", "openai_responses" or "anthropic".

    Raises:
      AssertionError: Names each rule that is broken, and where.
    """
    _refuse(wire, _RULES[wire](body))


def _calls_as_sent(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message with names and arguments of its calls in the form in which every wire format has them."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [*map(_as_sent, calls)]} if calls else message


def _as_sent(call: Mapping[str, Any]) -> Mapping[str, Any]:
    match call.get("function"):
        case {"name": str(name), "arguments": str(arguments)}:
            sent = {"name": fitting_tool_name(name), "arguments": legal_arguments(arguments)}
            return {**call, "function": sent}
    return call


def _refuse(what: str, problems: Any) -> None:
    found = list(problems)
    if found:
        listed = "\n".join(f"  {problem}" for problem in found)
        raise AssertionError(f"the history ({what}) would be refused:\n{listed}")
