"""What a scripted server does for one request, byte by byte: sends, pauses and ways to hang up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import chain, count
from typing import TypeAlias

import msgspec
from msgspec import Struct

from ._answer import Answer, HttpResponse, RawResponse
from ._fault import Cut, CutBy, CutPoint, HugeLine, MalformedEvent, SlowDrip, Stall
from ._openai_chat import Event, EventStream, completion, event_stream, huge_event

__all__ = [
    "Asked",
    "HangUp",
    "Pause",
    "Playback",
    "Send",
    "playback",
    "playback_template",
    "response_bytes",
]

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"content-type: text/event-stream\r\n"
    b"cache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


class Send(Struct, frozen=True):
    """Write these bytes, with the request's number between the segments; most payloads are one segment."""

    segments: tuple[bytes, ...]

    def payload(self, number: bytes) -> bytes:
        """The bytes to write for the request with this number."""
        return number.join(self.segments)


class Pause(Struct, frozen=True):
    """Wait so long, or until the client hangs up; `math.inf` waits for that alone."""

    seconds: float


class HangUp(Struct, frozen=True):
    """Close the connection: by FIN, or by RST."""

    reset: bool = False


Playback: TypeAlias = tuple[Send | Pause | HangUp, ...]

_Part: TypeAlias = bytes | Pause | HangUp


class Asked(Struct, frozen=True):
    """What of a request shapes the form of the answer to it."""

    model: str
    stream: bool
    include_usage: bool = False


def playback(item: Answer | HttpResponse | RawResponse, asked: Asked, number: str) -> Playback:
    """Translate one item of a script into what the server does. `number` goes into the ids of the answer."""
    match item:
        case RawResponse(data=data, reset=reset):
            return _merged([data, HangUp(reset)])
        case HttpResponse(status=status, headers=headers, before_head_s=before_head_s):
            content_type, body = item.content()
            response = response_bytes(status, body, content_type, headers)
            return _merged([Pause(before_head_s), response])
        case Answer(before_head_s=before_head_s, fault=Stall(after_deltas=None)):
            return _merged([Pause(before_head_s), Pause(math.inf)])
        case Answer(before_head_s=before_head_s, fault=Cut(after_deltas=None, by=by)):
            return _merged([Pause(before_head_s), HangUp(reset=by == "reset")])
        case Answer() if asked.stream:
            return _merged(
                [Pause(item.before_head_s), STREAM_HEAD, *_streamed(item, asked, number)]
            )
        case Answer():
            return _merged(_in_one_piece(item, asked, number))


def playback_template(answer: Answer, asked: Asked) -> Playback:
    """The playback of an answer for requests of any number: made once, played often."""
    plain = playback(answer, asked, "")
    written = b"".join(step.payload(b"") for step in plain if isinstance(step, Send))
    mark = next(mark for mark in (f"{n:08x}" for n in count()) if mark.encode() not in written)
    return tuple(
        Send(tuple(step.payload(b"").split(mark.encode()))) if isinstance(step, Send) else step
        for step in playback(answer, asked, mark)
    )


def response_bytes(
    status: int,
    body: bytes,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A complete HTTP/1.1 response. `headers` are added and win."""
    fields = {"content-type": content_type, "content-length": str(len(body))}
    fields |= {name.lower(): value for name, value in (headers or {}).items()}
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _streamed(answer: Answer, asked: Asked, number: str) -> list[_Part]:
    """The body of a streamed answer."""
    events = event_stream(
        answer, model=asked.model, number=number, include_usage=asked.include_usage
    )
    paced = _paced(answer, events)
    closing: list[_Part] = [_chunk(event.payload) for event in events.closing]
    closing.append(LAST_CHUNK)
    match answer.fault:
        case None:
            return [*chain(*paced), *closing]
        case SlowDrip() as drip:
            whole = [part for part in (*chain(*paced), *closing) if isinstance(part, bytes)]
            return _dripped(b"".join(whole), drip)
        case Stall(after_deltas=int(after)):
            return [*chain(*paced[: after + 1]), Pause(math.inf)]
        case Cut(after_deltas=int(after), at=at, by=by):
            following = (*events.deltas, events.closing[0])[min(after, len(events.deltas))]
            return [*chain(*paced[: after + 1]), *_cut_chunk(following, at, by)]
        case MalformedEvent(data=data, after_deltas=after):
            inserted = data.encode() if isinstance(data, str) else data
        case HugeLine(size=size, after_deltas=after):
            inserted = huge_event(size, model=asked.model, number=number)
        case fault:
            raise AssertionError(f"a server cannot play {fault!r}")
    return [*chain(*paced[: after + 1]), _chunk(inserted), *chain(*paced[after + 1 :]), *closing]


def _paced(answer: Answer, events: EventStream) -> list[list[_Part]]:
    """The opening and the increments, each with the pause before it; the first increment follows at once."""
    paced: list[list[_Part]] = [
        [Pause(answer.before_first_delta_s), _chunk(events.opening.payload)]
    ]
    for event in events.deltas:
        pause = Pause(answer.between_deltas_s if len(paced) > 1 else 0.0)
        paced.append([pause, _chunk(event.payload)])
    return paced


def _in_one_piece(answer: Answer, asked: Asked, number: str) -> list[_Part]:
    """The whole response for a client that did not ask for a stream; it takes as long as the stream would."""
    deltas = len(event_stream(answer, model="", number="", include_usage=False).deltas)
    wait = answer.before_first_delta_s + answer.between_deltas_s * max(0, deltas - 1)
    if isinstance(answer.fault, HugeLine):
        answer = msgspec.structs.replace(answer, text="x" * answer.fault.size)
    body = completion(answer, model=asked.model, number=number)
    half = body[: len(body) // 2]
    response = response_bytes(200, body)
    parts: list[_Part] = [Pause(answer.before_head_s), Pause(wait)]
    match answer.fault:
        case None | HugeLine():
            return [*parts, response]
        case SlowDrip() as drip:
            head = response[: -len(body)]
            return [*parts, head, *_dripped(body, drip)]
        case Stall():
            return [*parts, response[: -len(half)], Pause(math.inf)]
        case Cut(by="end_of_body"):
            return [*parts, response_bytes(200, half)]
        case Cut(by=by):
            return [*parts, response[: -len(half)], HangUp(reset=by == "reset")]
        case MalformedEvent(data=data):
            return [*parts, response_bytes(200, data.encode() if isinstance(data, str) else data)]
        case fault:
            raise AssertionError(f"a server cannot play {fault!r}")


def _cut_chunk(event: Event, at: CutPoint, by: CutBy) -> list[_Part]:
    """As much of an event as is still sent, and the end of the connection or of the body."""
    sent = event.payload[: _cut_position(event, at)]
    if by == "end_of_body":
        return [_chunk(sent) if sent else b"", LAST_CHUNK]
    # The chunk promises the whole event: HTTP notices the cut as well, as it does when a server dies.
    begun = b"%x\r\n" % len(event.payload) + sent if sent else b""
    return [begun, HangUp(reset=by == "reset")]


def _cut_position(event: Event, at: CutPoint) -> int:
    line_length = len(event.payload.rstrip(b"\n"))
    match at:
        case "between_events":
            return 0
        case "mid_event":
            return line_length + 1
        case "mid_token" if event.token:
            start = event.payload.rindex(event.token + b'"')
            multi_byte = (i for i, byte in enumerate(event.token) if byte >= 0xC0)
            return start + next((i + 1 for i in multi_byte), len(event.token) // 2)
        case _:
            return line_length // 2


def _chunk(payload: bytes) -> bytes:
    """Frame bytes for a chunked body. Source: RFC 9112, section 7.1."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _dripped(body: bytes, drip: SlowDrip) -> list[_Part]:
    parts: list[_Part] = []
    for start in range(0, len(body), drip.write_size):
        parts += [Pause(drip.every_s), body[start : start + drip.write_size]]
    return parts


def _merged(parts: Iterable[_Part]) -> Playback:
    """Leave out pauses of no time, and make one write of what has no pause in between."""
    steps: list[Send | Pause | HangUp] = []
    written: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            written.append(part)
        elif not isinstance(part, Pause) or part.seconds > 0:
            if any(written):
                steps.append(Send((b"".join(written),)))
            written = []
            steps.append(part)
    if any(written):
        steps.append(Send((b"".join(written),)))
    return tuple(steps)
