"""Which tool call a streamed fragment belongs to, from services that number them and from those that do not."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from nanobot.messages import ToolCallDelta

from . import _wire

__all__ = ["ToolCallSorter"]


class _Open(Struct):
    """A call that has begun: its place in the answer, and what was told of it so far."""

    index: int
    id: str = ""
    name: str = ""
    arguments: list[str] = []


class ToolCallSorter:
    """Gives every fragment the index of its call, and passes on id and name once per call.

    A fragment belongs to the call with its index, or without an index to the call with its id, or without
    either to the last one. It begins a new call all the same if it brings another id, another name, or the same
    name again after arguments that are already whole: some services number every call 0. Calls are numbered in
    the order in which they begin.
    """

    __slots__ = ("_by_id", "_by_index", "_calls", "_last")

    def __init__(self) -> None:
        self._by_index: dict[int, _Open] = {}
        self._by_id: dict[str, _Open] = {}
        self._calls = 0
        self._last: _Open | None = None

    def sort(self, fragment: _wire.ToolCall) -> ToolCallDelta | None:
        """Return the delta that `fragment` stands for, or None if it says nothing new."""
        function = fragment.function
        call_id = fragment.id or ""
        name = (function.name or "") if function is not None else ""
        arguments = "" if function is None else _text(function.arguments)
        call = self._find(fragment.index, call_id)
        if call is None or _is_another(call, call_id, name):
            if not (call_id or name or arguments):
                return None
            call = _Open(self._calls)
            self._calls += 1
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        self._last = call
        new_id = "" if call.id else call_id
        new_name = "" if call.name else name
        if new_id:
            call.id = new_id
            self._by_id[new_id] = call
        if new_name:
            call.name = new_name
        if arguments:
            call.arguments.append(arguments)
        extra = {"extra_content": fragment.extra_content} if fragment.extra_content else None
        if not (new_id or new_name or arguments or extra):
            return None
        return ToolCallDelta(call.index, new_id, new_name, arguments, extra)

    def _find(self, index: int | None, call_id: str) -> _Open | None:
        if index is not None:
            return self._by_index.get(index)
        if call_id:
            return self._by_id.get(call_id)
        return self._last


def _is_another(call: _Open, call_id: str, name: str) -> bool:
    if call_id:
        return bool(call.id) and call_id != call.id
    if not (name and call.name):
        return False
    return name != call.name or _is_whole("".join(call.arguments))


def _is_whole(arguments: str) -> bool:
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _text(arguments: str | dict[str, object] | None) -> str:
    if isinstance(arguments, dict):
        return msgspec.json.encode(arguments).decode()
    return arguments or ""
