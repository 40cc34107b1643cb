"""From our messages and tools to the bytes of a chat completions request.

Each message is encoded by itself and the body is put together from the pieces, so that whoever keeps the pieces
of a history encodes only what is new. Nothing is encoded twice.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import trio
from msgspec import Struct

from nanobot._regular_file import read_regular
from nanobot.messages import (
    MAX_IMAGE_BYTES,
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)

from .._provider import ModelRequest
from .._request_body import (
    HISTORY,
    NOTHING_SAID,
    body_with_history,
    file_reference,
    fitting_tool_name,
    json_bytes,
    legal_arguments,
    merged,
)

__all__ = [
    "EncodedMessage",
    "call_ids_for",
    "encode_body",
    "encode_message",
    "encode_tools",
    "read_images",
]

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)

_NINE: Final = re.compile(r"[a-zA-Z0-9]{9}")


class EncodedMessage(Struct, frozen=True, gc=False):
    """One message as it goes on the wire.

    A tool result may only be text. Its images travel in `after_results`, a user message that belongs behind the
    last result of the same answer: between two results it would break the pairing of calls and results.
    """

    body: bytes
    is_result: bool = False
    after_results: bytes = b""


def call_ids_for(quirks: frozenset[str]) -> Callable[[str], str]:
    """How the ids of tool calls are written where the service takes only some; the same id is always written the same.

    OpenAI refuses ids of more than 40 characters, Mistral all but 9 letters and digits. A session may have been begun with
    another service.
    """
    if "tool_ids_9" in quirks:
        return _nine_characters
    return _forty_characters if "tool_ids_40" in quirks else str


def _nine_characters(call_id: str) -> str:
    return call_id if _NINE.fullmatch(call_id) else _digest(call_id)[:9]


def _forty_characters(call_id: str) -> str:
    return call_id if len(call_id) <= 40 else f"call_{_digest(call_id)}"


def _digest(call_id: str) -> str:
    encoded = call_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def encode_message(
    message: Message,
    images: Mapping[str, str] | None = None,
    call_id: Callable[[str], str] = str,
) -> EncodedMessage:
    """Encode one message. The same message and images give the same bytes.

    Args:
      message: Any of the four kinds. What a user message lists under `media` is not sent: whoever shows the
      history to the
        model has turned it into parts.
      images: What `read_images` returned for the image parts that are files; one that is missing is sent as a
      text that
        says so.
      call_id: How the id of a tool call is written, see `call_ids_for`.
    """
    known = images or {}
    match message:
        case SystemMessage():
            system = message.content or NOTHING_SAID
            return EncodedMessage(json_bytes({"role": "system", "content": system}))
        case UserMessage():
            content = _content(message.content, known) or NOTHING_SAID
            return EncodedMessage(json_bytes({"role": "user", "content": content}))
        case AssistantMessage():
            return EncodedMessage(json_bytes(_assistant(message, call_id)))
        case ToolMessage():
            return _tool_result(message, known, call_id)


def encode_tools(tools: Sequence[ToolSpec]) -> bytes:
    """Encode the tools that are offered, as the JSON array that the body takes."""
    return json_bytes(
        [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in tools
        ]
    )


def encode_body(
    request: ModelRequest,
    messages: Sequence[EncodedMessage],
    tools: bytes,
    *,
    quirks: frozenset[str] = frozenset(),
    extra_body: Mapping[str, Any] | None = None,
) -> bytes:
    """Put a request's body together from encoded pieces.

    `extra_body` (the endpoint's) and then `request.extra_body` are merged in last, object into object, and win.
    Quirks: "max_completion_tokens" names the limit so; "no_stream_usage" does not ask for token counts.
    """
    fields: dict[str, Any] = {"model": request.model}
    fields["messages"] = HISTORY
    if request.tools:
        fields["tools"] = msgspec.Raw(tools)
        if request.tool_choice != "auto":  # which is what a service does with tools unasked
            fields["tool_choice"] = request.tool_choice
    if request.max_tokens is not None:
        name = "max_completion_tokens" if "max_completion_tokens" in quirks else "max_tokens"
        fields[name] = request.max_tokens
    if request.temperature is not None:
        fields["temperature"] = request.temperature
    if request.reasoning_effort is not None:
        fields["reasoning_effort"] = request.reasoning_effort
    if request.output is not None:
        fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": request.output.name,
                "schema": request.output.schema,
                "strict": True,
            },
        }
    fields["stream"] = True
    if "no_stream_usage" not in quirks:
        fields["stream_options"] = {"include_usage": True}
    for extra in (extra_body, request.extra_body):
        if extra:
            fields = merged(fields, extra)
    return body_with_history(fields, _in_order(messages))


async def read_images(messages: Iterable[Message]) -> dict[str, str]:
    """Read the images that messages refer to by path, and return each path's `data:` URL.

    Web and `data:` URLs need no reading. A file that cannot be read, or is larger than 20 MiB, is left out: a
    history that mentions a picture which is gone must still be good for another turn. Reading happens in a
    thread; a cancelled call abandons it.
    """
    parts = {
        part.source: part
        for message in messages
        if isinstance(message, (UserMessage, ToolMessage)) and isinstance(message.content, tuple)
        for part in message.content
        if isinstance(part, ImagePart) and not _is_url(part.source)
    }
    if not parts:
        return {}
    return await trio.to_thread.run_sync(
        _read_images_sync, tuple(parts.values()), abandon_on_cancel=True
    )


def _read_images_sync(parts: Sequence[ImagePart]) -> dict[str, str]:
    urls = {}
    for part in parts:
        try:
            path = Path(_local_path(part.source)).expanduser()
            content = read_regular(path, MAX_IMAGE_BYTES + 1)
        except (OSError, ValueError, RuntimeError):  # gone, a name with a NUL, no such home
            continue
        if len(content) > MAX_IMAGE_BYTES:
            continue
        media_type = part.media_type or _media_type(content, path)
        encoded = base64.b64encode(content).decode("ascii")
        urls[part.source] = f"data:{media_type};base64,{encoded}"
    return urls


def _media_type(content: bytes, path: Path) -> str:
    """Trust the bytes before the name: services reject an image that is not what it says."""
    for magic, media_type in _MAGIC:
        if content.startswith(magic):
            return media_type
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    guessed, _ = mimetypes.guess_type(path.name)
    return guessed if guessed is not None and guessed.startswith("image/") else "image/png"


def _is_url(source: str) -> bool:
    return source[:8].lower().startswith(("http://", "https://", "data:"))


def _local_path(source: str) -> str:
    return unquote(urlsplit(source).path) if source[:7].lower() == "file://" else source


def _content(
    content: str | tuple[Part, ...], images: Mapping[str, str]
) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part(part, images) for part in content]


def _part(part: Part, images: Mapping[str, str]) -> dict[str, Any]:
    match part:
        case TextPart():
            return _text(part.text)
        case ImagePart():
            url = part.source if _is_url(part.source) else images.get(part.source)
            if url is None:
                return _text(f"[image not available: {part.source}]")
            return {"type": "image_url", "image_url": {"url": url}}
        case FilePart():
            return _text(file_reference(part))


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _assistant(message: AssistantMessage, call_id: Callable[[str], str]) -> dict[str, Any]:
    if not message.tool_calls:
        return {"role": "assistant", "content": message.content}
    return {
        "role": "assistant",
        "content": message.content or None,
        "tool_calls": [_tool_call(call, call_id(call.id)) for call in message.tool_calls],
    }


def _tool_call(call: ToolCall, call_id: str) -> dict[str, Any]:
    ours = {
        "id": call_id,
        "type": "function",
        "function": {
            "name": fitting_tool_name(call.name),
            "arguments": legal_arguments(call.arguments),
        },
    }
    return {**call.extra, **ours} if call.extra else ours


def _tool_result(
    message: ToolMessage, images: Mapping[str, str], call_id: Callable[[str], str]
) -> EncodedMessage:
    content = message.content
    answered = call_id(message.tool_call_id)
    if isinstance(content, str):
        return EncodedMessage(json_bytes(_result(answered, content)), True)
    texts: list[str] = []
    pictures: list[dict[str, Any]] = []
    for part in content:
        encoded = _part(part, images)
        if encoded["type"] == "image_url":
            pictures.append(encoded)
            texts.append(f"[image {len(pictures)} of this result follows the results]")
        else:
            texts.append(encoded["text"])
    body = json_bytes(_result(answered, "\n".join(texts)))
    if not pictures:
        return EncodedMessage(body, True)
    heading = _text(f"Images from the result of {message.name} (call {message.tool_call_id}):")
    return EncodedMessage(body, True, json_bytes({"role": "user", "content": [heading, *pictures]}))


def _result(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _in_order(messages: Sequence[EncodedMessage]) -> list[bytes]:
    """A new list of the pieces, with every `after_results` moved behind the run of results that it belongs to."""
    if not any([message.after_results for message in messages]):  # noqa: C419 - thrice as fast; and nearly always so
        return [message.body for message in messages]
    ordered: list[bytes] = []
    waiting: list[bytes] = []
    for message in messages:
        if waiting and not message.is_result:
            ordered += waiting
            waiting = []
        ordered.append(message.body)
        if message.after_results:
            waiting.append(message.after_results)
    return ordered + waiting
