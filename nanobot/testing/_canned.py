"""What the server in a process of its own answers: what its command line says, or what the model's name asks for."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from nanobot.messages import ToolCall

from ._answer import GZIP_RUBBISH, HTML_PAGE, Answer, HttpResponse, RawResponse
from ._fault import Cut, HugeLine, MalformedEvent, SlowDrip, Stall
from ._recorded_request import RecordedRequest

__all__ = ["CANNED", "canned_answers"]

_TEXT = "This answer does not go as it should."

CANNED: dict[str, Answer | HttpResponse | RawResponse] = {
    "stall": Answer(_TEXT, fault=Stall()),
    "stall-midway": Answer(_TEXT, fault=Stall(after_deltas=3)),
    "cut": Answer(_TEXT, fault=Cut(after_deltas=3)),
    "cut-mid-event": Answer(_TEXT, fault=Cut(after_deltas=3, at="mid_event")),
    "cut-mid-line": Answer(_TEXT, fault=Cut(after_deltas=3, at="mid_line")),
    "cut-mid-token": Answer(_TEXT, fault=Cut(after_deltas=3, at="mid_token")),
    "cut-end-of-body": Answer(_TEXT, fault=Cut(after_deltas=3, by="end_of_body")),
    "reset": Answer(_TEXT, fault=Cut(after_deltas=3, by="reset")),
    "empty-response": Answer(_TEXT, fault=Cut(after_deltas=None)),
    "malformed-event": Answer(_TEXT, fault=MalformedEvent(after_deltas=3)),
    "huge-line": Answer(_TEXT, fault=HugeLine(after_deltas=3)),
    "slow-drip": Answer(_TEXT, fault=SlowDrip()),
    "html": HTML_PAGE,
    "gzip-rubbish": GZIP_RUBBISH,
    "garbage": RawResponse(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
}
"""What a model of this name does, whatever the command line says."""

_STATUS = re.compile(r"status-([2-5][0-9][0-9])(?:-retry-([0-9]+))?")


def canned_answers(
    answer: Answer, *, tool: ToolCall | None = None
) -> Callable[[RecordedRequest], Answer | HttpResponse | RawResponse]:
    """A script without end: `answer`, except for the models that `CANNED` names.

    The model "echo" says what the user said last, "status-429" is refused with that status, "status-429-retry-30" with
    a `Retry-After` as well. With a `tool`, a request that does not carry a tool result is answered by a call of it.
    """
    call = answer
    if tool is not None:
        call = msgspec.structs.replace(answer, text="", tool_calls=[tool])

    def next_answer(request: RecordedRequest) -> Answer | HttpResponse | RawResponse:
        model = request.model
        if model in CANNED:
            return CANNED[model]
        if model == "echo":
            return Answer(request.user_texts[-1] if request.user_texts else "")
        if status := _STATUS.fullmatch(model):
            headers = {"retry-after": status[2]} if status[2] else {}
            return HttpResponse(int(status[1]), headers=headers)
        return answer if request.last_role == "tool" else call

    return next_answer
