"""One JSON frame, or plain text, of a client becomes one typed value. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from ._client_frames import (
    CHAT_ID,
    Approval,
    Attach,
    Cancel,
    ClientFrame,
    ForkChat,
    FrameError,
    ListChats,
    Media,
    Resume,
    Say,
    SearchChats,
    TranscribeAudio,
    WebuiRequest,
)

__all__ = ["MAX_TEXT_CHARS", "read_client_frame"]

MAX_TEXT_CHARS: Final = 65_536
"""Longest message of a user: beyond it somebody pastes a book, which belongs into a file."""

_LONG_CHARS: Final = 1024 * 1024
"""Longest frame without files; the sidebar's state, the longest of them, may have a quarter of that."""

_MAX_QUERY_CHARS: Final = 1_000
_MAX_TITLE_CHARS: Final = 200
_MAX_HISTORY: Final = 1_000
_MAX_NAME_CHARS: Final = 128

_MAY_BE_LONG: Final = ("message", "transcribe_audio")


_ABSENT: Final = Raw()


class _Sketch(Struct):
    """An object before it is known what it is. What no field is for is skipped, and so is what a field holds until somebody
    asks: a frame of 36 MB may hold ten million small objects, which nobody wants to have made.
    """

    type: Raw = _ABSENT
    content: Raw = _ABSENT
    text: Raw = _ABSENT
    message: Raw = _ABSENT
    chat_id: Raw = _ABSENT
    turn_id: Raw = _ABSENT
    media: Raw = _ABSENT


_SKETCH: Final[msgspec.json.Decoder[_Sketch]] = msgspec.json.Decoder(_Sketch)
_FRAME: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)
_TEXT: Final[msgspec.json.Decoder[str]] = msgspec.json.Decoder(str)
_MEDIA: Final[msgspec.json.Decoder[list[Media]]] = msgspec.json.Decoder(list[Media])


def read_client_frame(text: str) -> ClientFrame:
    """Understand one text message of a client.

    A JSON object with a `type` is what its type says. One without is a message, in `content`, `text` or `message`. All
    else is a message as it stands, also JSON that is no object: people write what they like.

    Raises:
      FrameError: The object is none that a client may send, or a field is out of its bounds.
    """
    sketch = _sketch(text)
    if sketch is None:
        return _checked(Say(text))
    if not sketch.type:
        return _checked(_untyped(sketch))
    if len(text) > _LONG_CHARS and _text_of(sketch, "type") not in _MAY_BE_LONG:
        raise FrameError("too_long", f"a frame without files may have {_LONG_CHARS} characters")
    try:
        return _checked(_FRAME.decode(text))
    except (msgspec.DecodeError, RecursionError) as error:
        raise FrameError(
            "bad_frame", str(error), _name_of(sketch.chat_id), _name_of(sketch.turn_id) or ""
        ) from None


def _sketch(text: str) -> _Sketch | None:
    """What the text says it is; None if it is no JSON object."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return _SKETCH.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _untyped(sketch: _Sketch) -> Say:
    media = []
    if sketch.media:
        try:
            media = _MEDIA.decode(sketch.media)
        except (msgspec.DecodeError, RecursionError) as error:
            raise FrameError("bad_frame", f"`media`: {error}") from None
    for raw in (sketch.content, sketch.text, sketch.message):
        if (said := _text(raw)) is not None:
            return Say(said, _text_of(sketch, "chat_id"), _text_of(sketch, "turn_id"), media)
    raise FrameError("bad_frame", "an object without `type` must have `content`, a string")


def _text(raw: Raw) -> str | None:
    """The string that a field holds, if it holds one."""
    try:
        return _TEXT.decode(raw)
    except msgspec.DecodeError:
        return None


def _text_of(sketch: _Sketch, name: str) -> str:
    raw: Raw = getattr(sketch, name)
    if not raw:
        return ""
    if (text := _text(raw)) is None:
        raise FrameError("bad_frame", f"`{name}` must be a string")
    return text


def _name_of(raw: Raw) -> str | None:
    """A name in a frame that is refused anyway: it is told back only if it is one."""
    name = _text(raw)
    return name if name is not None and CHAT_ID.fullmatch(name) else None


def _checked(frame: ClientFrame) -> ClientFrame:
    chat_id: str | None = getattr(frame, "chat_id", None)
    optional = isinstance(frame, (Say, Cancel, Approval, Resume))
    if chat_id is not None and not (chat_id == "" and optional) and not CHAT_ID.fullmatch(chat_id):
        raise FrameError("bad_chat_id", "`chat_id` must be 1 to 64 of A-Z a-z 0-9 _ : -")
    match frame:
        case Say(content=content, media=media, turn_id=turn_id):
            _bounded(turn_id, "turn_id", _MAX_NAME_CHARS)
            if not content.strip() and not media:
                raise FrameError("empty", "a message must not be empty", chat_id, turn_id)
            if len(content) > MAX_TEXT_CHARS:
                limit = f"a message may have {MAX_TEXT_CHARS} characters, not {len(content)}"
                raise FrameError("too_long", limit, chat_id, turn_id)
        case Attach():
            _bounded(frame.epoch, "epoch", _MAX_NAME_CHARS)
            if not (0 <= frame.history <= _MAX_HISTORY and frame.after >= 0):
                raise FrameError(
                    "bad_frame", f"`history` must be 0 to {_MAX_HISTORY}, and `after` >= 0", chat_id
                )
        case Cancel(turn_id=turn_id):
            _bounded(turn_id, "turn_id", _MAX_NAME_CHARS)
        case Approval():
            _bounded(frame.request_id, "request_id", _MAX_NAME_CHARS)
            _bounded(frame.reason, "reason", MAX_TEXT_CHARS)
        case SearchChats():
            _bounded(frame.query, "query", _MAX_QUERY_CHARS)
            _listed(frame.limit)
        case ListChats(limit=limit):
            _listed(limit)
        case ForkChat(source_chat_id=source, before_user_index=index):
            if not CHAT_ID.fullmatch(source) or (index is not None and index < 0):
                raise FrameError(
                    "bad_frame",
                    "`source_chat_id` must name a chat, and `before_user_index` be >= 0",
                )
            _bounded(frame.title, "title", _MAX_TITLE_CHARS)
        case WebuiRequest(request_id=request_id) | TranscribeAudio(request_id=request_id):
            _bounded(request_id, "request_id", _MAX_NAME_CHARS)
        case _:
            pass
    return frame


def _bounded(text: str, name: str, limit: int) -> None:
    if len(text) > limit:
        raise FrameError("bad_frame", f"`{name}` may have {limit} characters, not {len(text)}")


def _listed(limit: int) -> None:
    if not 1 <= limit <= _MAX_HISTORY:
        raise FrameError("bad_frame", f"`limit` must be 1 to {_MAX_HISTORY}")
