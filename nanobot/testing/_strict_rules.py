"""The rules of the strictest service of each wire format, as far as they concern what was said. Pure.

Each function reads along as the service does, and yields what it would refuse the request for.

Source: the error messages of the services themselves, and their references:
https://platform.openai.com/docs/api-reference/chat/create
https://developers.openai.com/api/reference/resources/responses/methods/create
https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

__all__ = ["Wire", "anthropic_problems", "openai_chat_problems", "openai_responses_problems"]

Wire: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic"]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CLAUDE_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OPENAI_ID: Final = re.compile(r"[!-~]{1,64}")


def openai_chat_problems(body: Mapping[str, Any]) -> Iterator[str]:
    """What a strict chat completions service refuses."""
    messages = body.get("messages")
    if not _is_list(messages) or not messages:
        yield "messages: a list that is not empty is required"
        return
    owed: dict[str, int] = {}
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if owed and role != "tool":
            yield f"{where}: these calls have no result yet: {', '.join(owed)}"
            owed = {}
        match role:
            case "system" | "developer" | "user":
                if not _has_content(message.get("content")):
                    yield f"{where}.content: {role} said nothing"
            case "assistant":
                calls = message.get("tool_calls")
                content = message.get("content")
                if calls is None and not (isinstance(content, str) and content.strip()):
                    yield f"{where}: an answer with neither text nor calls"
                if calls is not None and not (_is_list(calls) and calls):
                    yield f"{where}.tool_calls: an empty list"
                for call in calls or ():
                    yield from _chat_call_problems(call, where, owed)
                    owed[str(call.get("id"))] = index
            case "tool":
                call_id = str(message.get("tool_call_id"))
                if call_id not in owed:
                    yield f"{where}: a result of {call_id!r}, which no call before it owes"
                owed.pop(call_id, None)
                if not isinstance(message.get("content"), (str, list)):
                    yield f"{where}.content: a result must have content"
            case _:
                yield f"{where}.role: {role!r}"
    if owed:
        yield f"the end: these calls have no result: {', '.join(owed)}"


def _chat_call_problems(
    call: Mapping[str, Any], where: str, owed: Mapping[str, int]
) -> Iterator[str]:
    call_id, function = call.get("id"), call.get("function") or {}
    if not isinstance(call_id, str) or not _OPENAI_ID.fullmatch(call_id):
        yield f"{where}.tool_calls: the id {call_id!r}"
    elif call_id in owed:
        yield f"{where}.tool_calls: the id {call_id!r} twice"
    if call.get("type") != "function":
        yield f"{where}.tool_calls: the type {call.get('type')!r}"
    yield from _function_problems(function, where)


def openai_responses_problems(body: Mapping[str, Any]) -> Iterator[str]:
    """What a strict Responses service refuses."""
    items = body.get("input")
    if not _is_list(items) or not items:
        yield "input: a list that is not empty is required"
        return
    owed: dict[str, int] = {}
    reasoning_open = False
    for index, item in enumerate(items):
        where = f"input[{index}]"
        kind = item.get("type", "message")
        if reasoning_open and not (
            kind in ("function_call", "reasoning")
            or (kind == "message" and item.get("role") == "assistant")
        ):
            yield f"{where}: the reasoning before it lacks the item that must follow"
        reasoning_open = kind == "reasoning"
        match kind:
            case "message":
                if item.get("role") not in ("user", "assistant", "system", "developer"):
                    yield f"{where}.role: {item.get('role')!r}"
                if owed and item.get("role") != "assistant":
                    yield f"{where}: no output found for the calls {', '.join(owed)}"
                    owed = {}
                if not _has_content(item.get("content")):
                    yield f"{where}.content: nothing"
            case "function_call":
                call_id = item.get("call_id")
                if not isinstance(call_id, str) or not _OPENAI_ID.fullmatch(call_id):
                    yield f"{where}.call_id: {call_id!r}"
                elif call_id in owed:
                    yield f"{where}.call_id: {call_id!r} twice"
                owed[str(call_id)] = index
                yield from _function_problems(item, where)
            case "function_call_output":
                call_id = str(item.get("call_id"))
                if call_id not in owed:
                    yield f"{where}: no call found for the output of {call_id!r}"
                owed.pop(call_id, None)
                if not isinstance(item.get("output"), (str, list)):
                    yield f"{where}.output: required"
            case "reasoning":
                pass
            case _:
                yield f"{where}.type: {kind!r}"
    if reasoning_open:
        yield "the end: reasoning without the item that must follow"
    if owed:
        yield f"the end: no output found for the calls {', '.join(owed)}"


def anthropic_problems(body: Mapping[str, Any]) -> Iterator[str]:
    """What a strict Messages service refuses."""
    messages = body.get("messages")
    if not _is_list(messages) or not messages:
        yield "messages: a list that is not empty is required"
        return
    offered = {tool.get("name") for tool in body.get("tools") or ()}
    owed: list[str] = []
    before = "assistant"
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant"):
            yield f"{where}.role: {role!r}"
        if role == before:
            yield f"{where}.role: {role} twice in a row" if index else f"{where}.role: not the user"
        before = str(role)
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not _is_list(blocks) or not blocks:
            yield f"{where}.content: nothing"
            continue
        answered = [
            str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"
        ]
        if owed and sorted(answered) != sorted(owed):
            yield f"{where}: results of {answered} where {owed} were called in the message before"
        elif not owed and answered:
            yield f"{where}: results of {answered}, which nothing in the message before has called"
        kinds = [block.get("type") for block in blocks]
        if "tool_result" in kinds[kinds.count("tool_result") :]:
            yield f"{where}: results must come first"
        owed = []
        for block in blocks:
            yield from _claude_block_problems(block, where, role, offered, owed)
            if block.get("type") == "tool_use":
                owed.append(str(block.get("id")))
    if owed:
        yield f"the end: no results for the calls {', '.join(owed)}"


def _claude_block_problems(
    block: Mapping[str, Any],
    where: str,
    role: object,
    offered: set[Any],
    called: Sequence[str],
) -> Iterator[str]:
    match block.get("type"):
        case "text":
            if not str(block.get("text") or "").strip():
                yield f"{where}: a text without any"
        case "tool_use":
            call_id = block.get("id")
            if not isinstance(call_id, str) or not _CLAUDE_ID.fullmatch(call_id):
                yield f"{where}: the id {call_id!r}"
            elif call_id in called:
                yield f"{where}: the id {call_id!r} twice"
            if not isinstance(block.get("input"), Mapping):
                yield f"{where}: input must be an object"
            if block.get("name") not in offered:
                yield f"{where}: the tool {block.get('name')!r} is not offered"
            if role != "assistant":
                yield f"{where}: the user calls a tool"
        case "tool_result":
            if role != "user":
                yield f"{where}: the assistant has a result"
        case "thinking":
            if role != "assistant" or not block.get("signature"):
                yield f"{where}: thinking without a signature, or by the user"
        case "redacted_thinking" | "image" | "document":
            pass
        case kind:
            yield f"{where}: a block of type {kind!r}"


def _function_problems(function: Mapping[str, Any], where: str) -> Iterator[str]:
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield f"{where}: a function named {name!r}"
    arguments = function.get("arguments")
    try:
        legal = isinstance(arguments, str) and isinstance(msgspec.json.decode(arguments), dict)
    except msgspec.DecodeError:
        legal = False
    if not legal:
        yield f"{where}: arguments that are no JSON object: {arguments!r:.80}"


def _has_content(content: object) -> bool:
    if isinstance(content, str):
        return bool(content)
    return _is_list(content) and bool(content)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))
