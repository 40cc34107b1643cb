"""Errors travel: between processes, and into whatever keeps a copy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import actors
import nanobot.errors
from nanobot.config import InvalidConfig, Issue
from nanobot.errors import (
    ApprovalGone,
    NanobotError,
    NoOutput,
    NothingToResume,
    ProviderError,
    ProviderTimeout,
    SessionBusy,
    UnknownPreset,
)

FACTS: dict[str, Callable[[], NanobotError]] = {
    "ApprovalGone": lambda: ApprovalGone("gone", approval_id="a", reason="expired"),
    "NoOutput": lambda: NoOutput("no JSON", "raw"),
    "NothingToResume": lambda: NothingToResume("nothing", approval_id="a"),
    "ProviderTimeout": lambda: ProviderTimeout("late", provider="p", phase="connect", limit_s=2.0),
    "SessionBusy": lambda: SessionBusy("busy", session_key="k", queued=3),
    "UnknownPreset": lambda: UnknownPreset("slow", ("fast",)),
}


def errors() -> Iterator[NanobotError]:
    for name in nanobot.errors.__all__:
        kind: Any = getattr(nanobot.errors, name)
        if name in FACTS:
            yield FACTS[name]()
        elif isinstance(kind, type) and issubclass(kind, ProviderError):
            yield kind("no", provider="p", status=429, retry_after_s=1.5, body_excerpt="said")
        elif isinstance(kind, type):
            yield kind("what to do")
    yield InvalidConfig(Path("config.json"), [Issue("api.port", "expected a number")])


@pytest.mark.parametrize("error", [*errors()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "travelled", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy]
)
def test_an_error_arrives_with_its_facts(
    error: NanobotError, travelled: Callable[[NanobotError], NanobotError]
) -> None:
    error.add_note("and a note")
    arrived = travelled(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    assert arrived.__dict__ == error.__dict__


ACTORS_FACTS: dict[str, Callable[[], actors.ActorsError]] = {
    "MailboxFull": lambda: actors.MailboxFull(3),
    "ReaderStalled": lambda: actors.ReaderStalled(1_000),
    "ChildFailed": lambda: actors.ChildFailed("clock", 6),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in actors.__all__
        if isinstance(kind := getattr(actors, name), type) and issubclass(kind, actors.ActorsError)
    ],
)
def test_so_does_one_of_the_actors(name: str) -> None:
    kind: Any = getattr(actors, name)
    error = ACTORS_FACTS[name]() if name in ACTORS_FACTS else kind("what to do")
    for arrived in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(arrived) is kind
        assert str(arrived) == str(error)
        assert arrived.__dict__ == error.__dict__
