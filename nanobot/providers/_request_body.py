"""What every wire format does on the way from values to the bytes of a request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nanobot.messages import FilePart, without_surrogates

__all__ = [
    "HISTORY",
    "NOTHING_SAID",
    "body_with_history",
    "file_reference",
    "fitting_call_id",
    "fitting_tool_name",
    "json_bytes",
    "legal_arguments",
    "merged",
]

NOTHING_SAID: Final = "(empty)"
"""What stands for a message without content, as a transcript may have one: services refuse the history that it is in."""

_ENCODER: Final = msgspec.json.Encoder()
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_KEPT_ID_CHARS: Final = 40
"""Of an id that does not fit; with what is put behind it, it stays below the 64 that services accept."""

_MOST_NAME_CHARS: Final = 64
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]")


def json_bytes(value: object) -> bytes:
    """Encode a value as JSON, also where its texts hold halves of characters, which UTF-8 cannot carry."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:  # rare enough to look for the culprit only now
        return _ENCODER.encode(_without_surrogates(value))


HISTORY: Final = msgspec.Raw(b"\0")
"""Stands in the fields of a body where its history will be: in JSON this byte can be nowhere."""


def body_with_history(fields: Mapping[str, Any], pieces: list[bytes]) -> bytes:
    """The JSON of these fields, with the array of encoded values in the place of `HISTORY`, unless other fields have taken it.

    What is as long as the history is made once. Some blocks of 200 kB that come and go in each turn have the allocator give
    memory back to the system and fetch it anew, page by page: 100 faults, a fifth of a turn.

    Args:
      fields: The body's.
      pieces: What the array has; changed.
    """
    before, place, after = json_bytes(fields).partition(b"\0")
    if not place:
        return before
    if not pieces:
        return b"%b[]%b" % (before, after)
    pieces[0] = b"%b[%b" % (before, pieces[0])
    pieces[-1] = b"%b]%b" % (pieces[-1], after)
    return b",".join(pieces)


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `ours` with `theirs` put over it, object into object; what is not an object is replaced."""
    result = dict(ours)
    for key, value in theirs.items():
        present = result.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            result[key] = merged(present, value)
        else:
            result[key] = value
    return result


def legal_arguments(arguments: str) -> str:
    """Return the arguments of a tool call if they are a JSON object, else an empty one.

    Services parse the arguments of past calls and refuse the whole history if they cannot. What was wrong with
    them is told in the result of the call.
    """
    try:
        _OBJECT.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return "{}"
    return arguments


def fitting_call_id(call_id: str, legal: re.Pattern[str]) -> str:
    """Return the id of a tool call as it is if all of it is `legal`, else one made from it, always the same.

    A session may have been begun with another service, and each has ids of its own. Call and result are encoded
    apart, so what is made depends on nothing but the id. It has letters, digits, "_" and "-".
    """
    if legal.fullmatch(call_id):
        return call_id
    digest = hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{_NOT_IN_NAMES.sub('_', call_id)[:_KEPT_ID_CHARS] or 'call'}_{digest}"


def fitting_tool_name(name: str) -> str:
    """Return the name of a tool that was called as it is if it can be one, else one made from it.

    Models call tools that there are not, under names that there cannot be. Services refuse a history with such a
    name as a whole, and so every later request of the session.
    """
    return _NOT_IN_NAMES.sub("_", name)[:_MOST_NAME_CHARS] or "_"


def file_reference(part: FilePart) -> str:
    """Return the text that tells a model of a file which it may open with a tool."""
    return f"[file: {part.path}, {part.media_type}]" if part.media_type else f"[file: {part.path}]"


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return without_surrogates(value)
        case Mapping():
            return {_without_surrogates(key): _without_surrogates(value[key]) for key in value}
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case _:
            return value
