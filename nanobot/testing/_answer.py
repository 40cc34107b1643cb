"""What a scripted model gives for one request: an answer, or a response that is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from nanobot.errors import UsageError
from nanobot.messages import FinishReason, ToolCall, Usage

from ._fault import Fault, check_seconds

__all__ = [
    "GZIP_RUBBISH",
    "HTML_PAGE",
    "SCRIPTED_USAGE",
    "Answer",
    "HttpResponse",
    "RawResponse",
    "ToolCallShorthand",
    "answer_from_text",
    "tool_calls_of",
]

SCRIPTED_USAGE = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
"""What an answer reports unless it says otherwise: constant, so that a test can write the sum down."""

ToolCallShorthand: TypeAlias = tuple[str, Mapping[str, Any] | str]
"""Name and arguments of a tool call; arguments given as text are sent as they are, valid JSON or not."""


class Answer(Struct, frozen=True):
    """One answer of a scripted model.

    ```python
    from nanobot.testing import Answer, Cut

    Answer("Hello there")  # one delta per word
    Answer(["Hel", "lo"])  # exactly these deltas
    Answer("The answer is 42.", reasoning="They ask about everything.")
    Answer(tool_calls=[("list_dir", {"path": "."})])
    Answer(tool_calls=[("list_dir", '{"path": ')])  # arguments that are not JSON
    Answer("Let me see", before_first_delta_s=1.0)  # a model that thinks for a second
    Answer("one two three", fault=Cut(after_deltas=2))  # a connection that dies under way
    ```

    A streamed answer comes in the order reasoning, text, tool calls. A tool call without an id gets one that is unique
    within its script and the same in every run of the test. `usage=None` reports none. The finish reason follows from
    whether there are tool calls, unless `finish_reason` says otherwise.

    Pauses are in seconds: before the response head, between the head and the first delta, between two deltas. Without
    any, the whole answer is one write. `delta_size` splits text, reasoning and arguments into pieces of so many
    characters; None splits after each word. `reasoning_field` is a name that the services disagree about.

    Asked for in one piece (`"stream": false`), an answer comes after the sum of its pauses. Then a `Stall` or `Cut`
    after some deltas strikes after half of the body, a `MalformedEvent` replaces the body, a `HugeLine` is its text.
    """

    text: str | Sequence[str] = ""
    reasoning: str | Sequence[str] = ""
    tool_calls: Sequence[ToolCall | ToolCallShorthand] = ()
    usage: Usage | None = SCRIPTED_USAGE
    finish_reason: FinishReason | None = None
    before_head_s: float = 0.0
    before_first_delta_s: float = 0.0
    between_deltas_s: float = 0.0
    delta_size: int | None = None
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    fault: Fault | None = None

    def __post_init__(self) -> None:
        check_seconds("Answer.before_head_s", self.before_head_s)
        check_seconds("Answer.before_first_delta_s", self.before_first_delta_s)
        check_seconds("Answer.between_deltas_s", self.between_deltas_s)
        if self.delta_size is not None and self.delta_size < 1:
            raise UsageError(
                f"Answer.delta_size is {self.delta_size}; it must be at least 1 character"
            )
        tool_calls_of(self, "")


class HttpResponse(Struct, frozen=True):
    """A whole HTTP response in place of an answer: an error status, a page of HTML, a body in the wrong encoding.

    ```python
    from nanobot.testing import HttpResponse

    HttpResponse(401)
    HttpResponse(429, headers={"retry-after": "30"})
    HttpResponse(500, "upstream is down")
    HttpResponse(400, {"error": {"message": "context length exceeded", "code": "context_length_exceeded"}})
    ```

    Without a `body`, an error status gets an error object in OpenAI's shape. The content type follows from the body
    (JSON for a mapping, HTML for text that starts with "<", else plain text or bytes) unless `headers` has one.
    """

    status: int
    body: str | bytes | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    before_head_s: float = 0.0

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599 or self.status in (204, 304):
            raise UsageError(
                f"HttpResponse.status is {self.status}; it must be 200 to 599, and not 204 or 304, which have no body"
            )
        check_seconds("HttpResponse.before_head_s", self.before_head_s)
        for name, value in self.headers.items():
            if not name or not f"{name}{value}".isascii() or not f"{name}{value}".isprintable():
                raise UsageError(
                    f"HttpResponse.headers: {name!r}: {value!r} is not one header line"
                )

    def content(self) -> tuple[str, bytes]:
        """The content type and the bytes of the body."""
        body = _error_object(self.status) if self.body is None else self.body
        if isinstance(body, bytes):
            return "application/octet-stream", body
        if isinstance(body, str):
            kind = "text/html" if body.lstrip().startswith("<") else "text/plain"
            return f"{kind}; charset=utf-8", body.encode()
        return "application/json", msgspec.json.encode(body)


class RawResponse(Struct, frozen=True):
    """Bytes in place of an HTTP response, valid or not; then the connection is closed (`reset=True`: by RST)."""

    data: bytes
    reset: bool = False


HTML_PAGE = HttpResponse(
    200, "<!DOCTYPE html>\n<html><body><h1>Please sign in to this network</h1></body></html>\n"
)
"""What a captive portal or a misconfigured proxy answers: status 200, and no JSON in sight."""

GZIP_RUBBISH = HttpResponse(
    200,
    b"this is not gzip",
    {"content-type": "text/event-stream", "content-encoding": "gzip"},
)
"""A body that claims an encoding that it does not have."""


@lru_cache(maxsize=256)  # bounds what a script that never repeats itself keeps alive
def answer_from_text(text: str) -> Answer:
    """The answer that a bare string in a script stands for; the same object for the same text."""
    return Answer(text)


def tool_calls_of(answer: Answer, number: str) -> tuple[ToolCall, ...]:
    """The tool calls of an answer, with shorthands spelled out and missing ids made from the request's number.

    Raises:
      UsageError: An entry is neither a `ToolCall` nor a name with arguments.
    """
    return tuple(
        _tool_call(call, f"call_{number}_{index}") for index, call in enumerate(answer.tool_calls)
    )


def _tool_call(call: object, id: str) -> ToolCall:
    match call:
        case ToolCall(id=""):
            return msgspec.structs.replace(call, id=id)
        case ToolCall():
            return call
        case (str(name), str(arguments)):
            return ToolCall(id, name, arguments)
        case (str(name), Mapping() as arguments):
            return ToolCall(id, name, msgspec.json.encode(arguments).decode())
        case _:
            raise UsageError(
                f"a scripted tool call is a ToolCall or a pair such as ('list_dir', {{'path': '.'}}); got {call!r}"
            )


def _error_object(status: int) -> dict[str, Any]:
    if status < 400:
        return {}
    kind = "server_error" if status >= 500 else "invalid_request_error"
    message, kind, code = _ERRORS.get(status, ("The request failed.", kind, None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("The request is invalid.", "invalid_request_error", None),
    401: ("The API key is not valid.", "invalid_request_error", "invalid_api_key"),
    403: ("This key may not use this model.", "invalid_request_error", "permission_denied"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    429: ("Too many requests; slow down.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error.", "server_error", None),
    503: ("The server is overloaded.", "server_error", "overloaded"),
}
