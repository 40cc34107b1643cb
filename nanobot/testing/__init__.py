"""Models that follow a script, and a check that nothing is left behind: for tests of what is built on nanobot.

- `ScriptedProvider` answers in this process, without I/O.
- `scripted_server` answers over real HTTP: in the caller's Trio run, in a thread, or in a process of its own
  (`python -m nanobot.testing.server`).
- `assert_legal_history` fails over a history that a model service would refuse.
- `no_leaks` fails a block that leaves tasks, files, sockets, threads or child processes behind.

Both models speak the same script: text, `Answer`, and what goes wrong in the field (`Stall`, `Cut`, `MalformedEvent`,
`HugeLine`, `SlowDrip`, `HttpResponse`, `RawResponse`, `Raise`).
"""

from ._answer import (
    GZIP_RUBBISH,
    HTML_PAGE,
    SCRIPTED_USAGE,
    Answer,
    HttpResponse,
    RawResponse,
)
from ._fault import Cut, Fault, HugeLine, MalformedEvent, Raise, SlowDrip, Stall
from ._leaks import LeakError, NoLeaks, no_leaks
from ._legal import assert_legal_history, assert_legal_request
from ._recorded_request import RecordedRequest
from ._script import ScriptExhausted, by_session
from ._scripted_provider import ProviderItem, ScriptedProvider, ScriptedStream
from ._scripted_server import ScriptedServer, ScriptedServerThread, scripted_server
from ._service import ServerItem
from ._statistics import Statistics

__all__ = [
    "GZIP_RUBBISH",
    "HTML_PAGE",
    "SCRIPTED_USAGE",
    "Answer",
    "Cut",
    "Fault",
    "HttpResponse",
    "HugeLine",
    "LeakError",
    "MalformedEvent",
    "NoLeaks",
    "ProviderItem",
    "Raise",
    "RawResponse",
    "RecordedRequest",
    "ScriptExhausted",
    "ScriptedProvider",
    "ScriptedServer",
    "ScriptedServerThread",
    "ScriptedStream",
    "ServerItem",
    "SlowDrip",
    "Stall",
    "Statistics",
    "assert_legal_history",
    "assert_legal_request",
    "by_session",
    "no_leaks",
    "scripted_server",
]
