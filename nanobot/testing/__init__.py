"""Models that follow a script, and a check that nothing is left behind: for tests of what is built on nanobot.

- `ScriptedProvider` answers in this process, without I/O.
- `scripted_server` answers over real HTTP: in the caller's Trio run, in a thread, or in a process of its own
  (`python -m nanobot.testing.server`).
- `assert_legal_history` fails over a history that a model service would refuse.
- `RecordingProvider` writes what a real model answers to a file, `ReplayProvider` plays it again; `cassette` is either.
- `FaultyProvider` goes around any provider and fails as networks and services do.
- `InMemoryStore` keeps sessions nowhere, for tests on a virtual clock (`virtual_clock`).
- `no_leaks` fails a block that leaves tasks, files, sockets, threads or child processes behind.

Both models speak the same script: text, `Answer`, and what goes wrong in the field (`Stall`, `Cut`, `MalformedEvent`,
`HugeLine`, `SlowDrip`, `HttpResponse`, `RawResponse`, `Raise`).
"""

from nanobot.sessions import InMemoryStore

from ._answer import (
    GZIP_RUBBISH,
    HTML_PAGE,
    SCRIPTED_USAGE,
    Answer,
    HttpResponse,
    RawResponse,
)
from ._cassette import CassetteMismatch
from ._clock import virtual_clock
from ._configured_provider import configured_provider
from ._fault import Cut, Fault, HugeLine, MalformedEvent, Raise, SlowDrip, Stall
from ._faulty_provider import FaultyProvider, random_faults
from ._leaks import LeakError, NoLeaks, no_leaks
from ._legal import assert_legal_history, assert_legal_request
from ._recorded_request import RecordedRequest
from ._recording import RecordingProvider, ReplayProvider, cassette
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
    "CassetteMismatch",
    "Cut",
    "Fault",
    "FaultyProvider",
    "HttpResponse",
    "HugeLine",
    "InMemoryStore",
    "LeakError",
    "MalformedEvent",
    "NoLeaks",
    "ProviderItem",
    "Raise",
    "RawResponse",
    "RecordedRequest",
    "RecordingProvider",
    "ReplayProvider",
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
    "cassette",
    "configured_provider",
    "no_leaks",
    "random_faults",
    "scripted_server",
    "virtual_clock",
]
