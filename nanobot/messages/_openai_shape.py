"""Messages as the plain dicts of OpenAI's chat API, and back.

Two views leave the library, and one comes in:

- `to_openai` is what a chat-completions client would send: `RunResult.messages`.
- `to_transcript` has everything we know of a message, extra fields inlined: snapshots.
- `message_from_openai` reads both, and what others export; nothing but `role` and `content` is required.

Source: https://platform.openai.com/docs/api-reference/chat/create (message and content part shapes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import date
from math import isfinite
from typing import Any, Final, get_args

import msgspec

from nanobot.errors import UsageError

from ._message import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    ToolOutcome,
    UserMessage,
)

__all__ = [
    "RUNTIME_CONTEXT",
    "message_from_openai",
    "messages_from_openai",
    "to_openai",
    "to_transcript",
    "without_surrogates",
]

RUNTIME_CONTEXT: Final = "_runtime_context"
"""Metadata key of a user message: what was added for the model and is not the user's (see `nanobot.context`)."""

_ROLES: Final = ("user", "assistant", "tool", "system")
_OUTCOMES: Final[frozenset[str]] = frozenset(get_args(ToolOutcome))

# Where entries go whose name is taken by a field of ours, so that writing and reading stay inverse.
_METADATA_ASIDE: Final = "_metadata"
_PAYLOAD_ASIDE: Final = "payload"
_EXTRA_ASIDE: Final = "extra"

_COMMON_FIELDS: Final = frozenset(
    {"role", "content", "timestamp", RUNTIME_CONTEXT, _METADATA_ASIDE}
)
_FIELDS: Final[dict[str, frozenset[str]]] = {
    "system": _COMMON_FIELDS,
    "user": _COMMON_FIELDS | {"media"},
    "assistant": _COMMON_FIELDS
    | {"tool_calls", "reasoning_content", "thinking_blocks", "interrupted"},
    "tool": _COMMON_FIELDS | {"tool_call_id", "name", "outcome"},
}
_CALL_FIELDS: Final = frozenset({"id", "type", "function", "index", _EXTRA_ASIDE})
_BLOCK_FIELDS: Final = frozenset({"type", "thinking", "signature", _PAYLOAD_ASIDE})


def to_openai(message: Message) -> dict[str, Any]:
    """Return the message as a chat-completions request carries it: role, content, and what joins calls to results.

    `content` is always a str or a list of parts, never None. Images stay references. The dict shares nothing mutable
    with the message.
    """
    match message:
        case SystemMessage(content=content):
            return {"role": "system", "content": content}
        case UserMessage(content=content):
            return {"role": "user", "content": _content(content)}
        case AssistantMessage():
            shaped: dict[str, Any] = {"role": "assistant", "content": message.content}
            if message.tool_calls:
                shaped["tool_calls"] = [_call_to_openai(call) for call in message.tool_calls]
            return shaped
        case ToolMessage():
            shaped = {"role": "tool", "tool_call_id": message.tool_call_id}
            if message.name:
                shaped["name"] = message.name
            shaped["content"] = _content(message.content)
            return shaped


def to_transcript(message: Message) -> dict[str, Any]:
    """Return everything about the message that is the user's to see, JSON-safe, metadata entries inlined.

    What was added for the model (`RUNTIME_CONTEXT`) is left out. `message_from_openai` gives the message back.
    """
    shaped = to_openai(message)
    match message:
        case UserMessage(media=media) if media:
            shaped["media"] = list(media)
        case AssistantMessage():
            if message.reasoning:
                shaped["reasoning_content"] = message.reasoning
            if message.thinking:
                shaped["thinking_blocks"] = [_block_to_dict(block) for block in message.thinking]
            if message.interrupted:
                shaped["interrupted"] = True
        case ToolMessage(outcome=outcome) if outcome != "ok":
            shaped["outcome"] = outcome
    if message.timestamp:
        shaped["timestamp"] = message.timestamp
    if message.metadata:
        kept = {key: value for key, value in message.metadata.items() if key != RUNTIME_CONTEXT}
        _inline(shaped, kept, taken=_FIELDS[shaped["role"]], aside=_METADATA_ASIDE)
    return shaped


def messages_from_openai(values: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Read a whole transcript, all or nothing.

    Raises:
      UsageError: Names the index and the field of the first message that cannot be read.
    """
    if isinstance(values, (str, bytes, Mapping)):
        raise UsageError(f"messages must be a list of messages, not {type(values).__name__}")
    return tuple(message_from_openai(value, index=index) for index, value in enumerate(values))


def message_from_openai(value: Mapping[str, Any], *, index: int = 0) -> Message:
    """Read one message in OpenAI's chat shape, leniently where nothing is lost by it.

    Required are `role` (user, assistant, tool, system) and `content`: a str, a list of parts, or None (or absent) for
    an assistant that calls tools. Parts may be `text`, `input_text`, `output_text`, `image_url`, `input_image` and
    `file` with a path. A `timestamp` is free text. Fields that we do not know become `metadata`, as JSON would carry
    them; `_runtime_context` is ours to write and is dropped. Missing ids of calls and results become "", for `repair`
    to mend. Lone surrogates, which no JSON can carry, are replaced.

    Args:
      value: The message.
      index: Its place in the transcript, for the error's text.

    Raises:
      UsageError: Names the index and the field, what is wrong there, and what is accepted.
    """
    where = f"messages[{index}]"
    if not isinstance(value, Mapping):
        raise UsageError(
            f"{where} must be a dict with role and content, not {type(value).__name__}"
        )
    if "role" not in value:
        raise UsageError(f"{where}.role is missing; it must be one of {', '.join(_ROLES)}")
    role = value["role"]
    if role not in _ROLES:
        raise UsageError(f"{where}.role must be one of {', '.join(_ROLES)}, not {role!r:.80}")
    known = {key for key in _FIELDS[role] & value.keys() if _is_ours(key, value[key])}
    timestamp = _timestamp(value.get("timestamp"), f"{where}.timestamp")
    metadata = _outline(value, taken=known, aside=_METADATA_ASIDE, where=where)
    fields = {key: value[key] for key in known}
    match role:
        case "system":
            text = _text_only(_required_content(fields, where), f"{where}.content")
            return SystemMessage(text, timestamp=timestamp, metadata=metadata)
        case "user":
            content = _content_from_openai(_required_content(fields, where), f"{where}.content")
            media = tuple(without_surrogates(path) for path in fields.get("media", ()))
            return UserMessage(content, media=media, timestamp=timestamp, metadata=metadata)
        case "assistant":
            return _assistant_from_openai(fields, timestamp, metadata, where)
        case _:
            return _tool_from_openai(fields, timestamp, metadata, where)


def without_surrogates(text: str) -> str:
    """Return the text with lone surrogates replaced by U+FFFD: UTF-8, and with it JSON, cannot carry them."""
    if text.isascii():  # a flag of the string, not a scan
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _content(content: str | tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [_part_to_openai(part) for part in content]


def _part_to_openai(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(source=source, media_type=media_type):
            image = {"url": source}
            if media_type:
                image["media_type"] = media_type
            return {"type": "image_url", "image_url": image}
        case FilePart(path=path, media_type=media_type):
            file = {"path": path}
            if media_type:
                file["media_type"] = media_type
            return {"type": "file", "file": file}


def _call_to_openai(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    shaped = {"id": call.id, "type": "function", "function": function}
    _inline(shaped, call.extra, taken=_CALL_FIELDS, aside=_EXTRA_ASIDE)
    return shaped


def _block_to_dict(block: ThinkingBlock) -> dict[str, Any]:
    shaped = {"type": block.kind}
    if block.text:
        shaped["thinking"] = block.text
    if block.signature:
        shaped["signature"] = block.signature
    _inline(shaped, block.payload, taken=_BLOCK_FIELDS, aside=_PAYLOAD_ASIDE)
    return shaped


def _is_ours(key: str, entry: Any) -> bool:
    """Tell whether a field has the meaning that we give it, or is an entry of the same name from elsewhere."""
    match key:
        case "outcome":
            return isinstance(entry, str) and entry in _OUTCOMES
        case "interrupted":
            return isinstance(entry, bool)
        case "media":
            return isinstance(entry, (list, tuple)) and all(isinstance(at, str) for at in entry)
        case _:
            return True


def _inline(
    shaped: dict[str, Any], entries: Mapping[str, Any], *, taken: frozenset[str], aside: str
) -> None:
    """Copy the entries into `shaped`; those whose name is taken go under the key `aside`."""
    if not entries:
        return
    copied: dict[str, Any] = msgspec.to_builtins(dict(entries), str_keys=True)
    crowded_out = {key: copied.pop(key) for key in taken & copied.keys()}
    shaped.update(copied)
    if crowded_out:
        shaped[aside] = crowded_out


def _outline(
    value: Mapping[str, Any], *, taken: Set[str], aside: str, where: str
) -> dict[str, Any]:
    """Collect the entries that no field of ours takes, copied and JSON-safe; the inverse of `_inline`."""
    entries: dict[str, Any] = {}
    for key, entry in value.items():
        if not isinstance(key, str):
            raise UsageError(f"{where} has a field name that is not a string: {key!r:.80}")
        if key == aside and isinstance(entry, Mapping):
            entries.update(_json_safe(dict(entry), f"{where}.{aside}"))
        elif key == aside or key not in taken:
            entries[without_surrogates(key)] = _json_safe(entry, f"{where}.{key:.80}")
    return entries


def _json_safe(entry: Any, where: str) -> Any:
    try:
        return _scrubbed(msgspec.to_builtins(entry, str_keys=True))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{where} cannot be stored as JSON: {error}") from error


def _scrubbed(entry: Any) -> Any:
    match entry:
        case str():
            return without_surrogates(entry)
        case dict():
            return {without_surrogates(key): _scrubbed(item) for key, item in entry.items()}
        case list() | tuple():
            return [_scrubbed(item) for item in entry]
        case float() if not isfinite(entry):  # JSON has no word for these
            return None
        case _:
            return entry


def _required_content(fields: Mapping[str, Any], where: str) -> Any:
    if "content" not in fields:
        raise UsageError(f"{where}.content is missing; it must be a string or a list of parts")
    return fields["content"]


def _assistant_from_openai(
    fields: Mapping[str, Any], timestamp: str, metadata: dict[str, Any], where: str
) -> AssistantMessage:
    calls = _calls_from_openai(fields.get("tool_calls"), f"{where}.tool_calls")
    if calls and fields.get("content") is None:
        content = ""
    else:
        content = _text_only(_required_content(fields, where), f"{where}.content")
    return AssistantMessage(
        content,
        tool_calls=calls,
        reasoning=_text_or_none(fields.get("reasoning_content"), f"{where}.reasoning_content"),
        thinking=_blocks(fields.get("thinking_blocks"), f"{where}.thinking_blocks"),
        interrupted=fields.get("interrupted", False),
        timestamp=timestamp,
        metadata=metadata,
    )


def _tool_from_openai(
    fields: Mapping[str, Any], timestamp: str, metadata: dict[str, Any], where: str
) -> ToolMessage:
    return ToolMessage(
        _text_or_none(fields.get("tool_call_id"), f"{where}.tool_call_id"),
        _text_or_none(fields.get("name"), f"{where}.name"),
        _content_from_openai(_required_content(fields, where), f"{where}.content"),
        outcome=fields.get("outcome", "ok"),
        timestamp=timestamp,
        metadata=metadata,
    )


def _content_from_openai(content: Any, where: str) -> str | tuple[Part, ...]:
    if isinstance(content, str):
        return without_surrogates(content)
    if not isinstance(content, (list, tuple)):
        raise UsageError(f"{where} must be a string or a list of parts, not {_named(content)}")
    if not content:
        return ""
    return tuple(_part_from_openai(part, f"{where}[{at}]") for at, part in enumerate(content))


def _text_only(content: Any, where: str) -> str:
    read = _content_from_openai(content, where)
    if isinstance(read, str):
        return read
    texts = []
    for at, part in enumerate(read):
        if not isinstance(part, TextPart):
            raise UsageError(f"{where}[{at}] must be text: only user and tool messages carry media")
        texts.append(part.text)
    return "\n".join(texts)


def _part_from_openai(part: Any, where: str) -> Part:
    match part:
        case str(text):
            return TextPart(without_surrogates(text))
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return TextPart(without_surrogates(text))
        case {"type": "refusal", "refusal": str(text)}:
            return TextPart(without_surrogates(text))
        case {"type": "image_url", "image_url": {"url": str(url)} as image}:
            return _image(url, _text_or_none(image.get("media_type"), f"{where}.media_type"), where)
        case {"type": "image_url" | "input_image", "image_url": str(url)}:
            return _image(url, "", where)
        case {"type": "file", "file": {"path": str(path)} as file}:
            media_type = _text_or_none(file.get("media_type"), f"{where}.media_type")
            return FilePart(without_surrogates(path), media_type)
        case {"type": str(kind)}:
            raise UsageError(
                f"{where} is not a part that can be kept (type {kind!r:.80}); accepted are text, an image_url "
                "with a URL, and a file with a path"
            )
        case _:
            raise UsageError(f"{where} must be a part with a type, not {_named(part)}")


def _image(url: str, media_type: str, where: str) -> ImagePart:
    if not url:
        raise UsageError(f"{where}.image_url is empty")
    return ImagePart(without_surrogates(url), media_type)


def _calls_from_openai(calls: Any, where: str) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    if not isinstance(calls, (list, tuple)):
        raise UsageError(f"{where} must be a list of tool calls, not {_named(calls)}")
    return tuple(_call_from_openai(call, f"{where}[{at}]") for at, call in enumerate(calls))


def _call_from_openai(call: Any, where: str) -> ToolCall:
    match call:
        case {"function": {"name": str(name)} as function}:
            arguments = function.get("arguments")
        case _:
            raise UsageError(f"{where} must have a function with a name")
    if arguments is None:
        arguments = "{}"
    elif not isinstance(arguments, str):  # some exports have them decoded already
        arguments = msgspec.json.encode(
            _json_safe(arguments, f"{where}.function.arguments")
        ).decode()
    return ToolCall(
        _text_or_none(call.get("id"), f"{where}.id"),
        without_surrogates(name),
        without_surrogates(arguments),
        _outline(call, taken=_CALL_FIELDS, aside=_EXTRA_ASIDE, where=where),
    )


def _blocks(blocks: Any, where: str) -> tuple[ThinkingBlock, ...]:
    if blocks is None:
        return ()
    if not isinstance(blocks, (list, tuple)):
        raise UsageError(f"{where} must be a list of reasoning items, not {_named(blocks)}")
    read = []
    for at, block in enumerate(blocks):
        spot = f"{where}[{at}]"
        if not (isinstance(block, Mapping) and isinstance(block.get("type"), str)):
            raise UsageError(f"{spot} must be a reasoning item with a type")
        read.append(
            ThinkingBlock(
                without_surrogates(block["type"]),
                _text_or_none(block.get("thinking"), f"{spot}.thinking"),
                _text_or_none(block.get("signature"), f"{spot}.signature"),
                _outline(block, taken=_BLOCK_FIELDS, aside=_PAYLOAD_ASIDE, where=spot),
            )
        )
    return tuple(read)


def _timestamp(timestamp: Any, where: str) -> str:
    match timestamp:
        case None:
            return ""
        case str():
            return without_surrogates(timestamp)
        case bool():
            pass
        case int() | float():
            return str(timestamp)
        case date():  # a datetime is one, too
            return timestamp.isoformat()
    raise UsageError(f"{where} must be text, not {_named(timestamp)}")


def _text_or_none(text: Any, where: str) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UsageError(f"{where} must be a string, not {_named(text)}")
    return without_surrogates(text)


def _named(value: Any) -> str:
    return "None" if value is None else type(value).__name__
