"""Fixtures for tests of what is built on nanobot; pytest finds them by itself.

Loaded at the start of every test run of whoever has nanobot installed: nothing is imported until a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trio.testing import MockClock

    from nanobot.providers import Provider
    from nanobot.sdk import Nanobot
    from nanobot.testing import ScriptedServerThread
    from nanobot.testing._recording import RecordingProvider, ReplayProvider

__all__ = [
    "nanobot_bot",
    "nanobot_cassette",
    "nanobot_clock",
    "nanobot_home",
    "nanobot_no_leaks",
    "nanobot_server",
    "pytest_addoption",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--nanobot-record=once|always|never`."""
    parser.getgroup("nanobot").addoption(
        "--nanobot-record",
        choices=("once", "always", "never"),
        default=None,
        help="when `nanobot_cassette` asks the real model: if there is no cassette (once), or always, or never",
    )


# What `nanobot_home` has put away in a test.
_OUTSIDE: pytest.StashKey[dict[str, str]] = pytest.StashKey()


@pytest.fixture
def nanobot_home(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A HOME of its own for the test, and an environment without keys of model services: no real configuration is read."""
    home = tmp_path / "home"
    home.mkdir()
    homes = [name for name in ("HOME", "USERPROFILE") if name in os.environ]
    services = [
        name for name in os.environ if name.endswith(("_API_KEY", "_API_BASE", "_BASE_URL"))
    ]
    request.node.stash[_OUTSIDE] = {name: os.environ[name] for name in (*homes, *services)}
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name in services:
        monkeypatch.delenv(name)
    return home


@pytest.fixture
def nanobot_bot(nanobot_home: Path) -> Iterator[Callable[..., Nanobot]]:
    """Makes bots: `nanobot_bot(answers, **from_config_arguments)`. They are closed after the test.

    `answers` is a script, as for `ScriptedProvider`, or a provider. Sessions are kept in memory and the workspace is in a
    folder of the test, unless the arguments say otherwise. Usable in asyncio, Trio and sync tests.
    """
    # deferred: see the module
    from nanobot.sdk import Nanobot
    from nanobot.testing import InMemoryStore, ScriptedProvider

    bots: list[Nanobot] = []

    def make(answers: Any, **arguments: Any) -> Nanobot:
        provider = answers if hasattr(answers, "open") else ScriptedProvider(answers)
        arguments.setdefault("workspace", nanobot_home / "workspace")
        arguments.setdefault("store", InMemoryStore())
        bot = Nanobot.from_config(provider=provider, **arguments)
        bots.append(bot)
        return bot

    yield make
    for bot in bots:
        bot.close()


@pytest.fixture
def nanobot_server() -> Iterator[Callable[..., ScriptedServerThread]]:
    """Starts model services that follow a script, over HTTP: `nanobot_server(answers).base_url`. They end after the test."""
    # deferred: see the module
    from nanobot.testing import scripted_server

    with ExitStack() as open_servers:

        def start(answers: Any, **arguments: Any) -> ScriptedServerThread:
            return open_servers.enter_context(scripted_server(answers, **arguments))

        yield start


@pytest.fixture
def nanobot_cassette(
    request: pytest.FixtureRequest,
) -> Callable[..., RecordingProvider | ReplayProvider]:
    """Records a real model once and replays it ever after: `nanobot_cassette(configured_provider, name="default")`.

    The file is `cassettes/<test module>/<test>.jsonl` beside the test's file, with `name` in it if there are several. It is
    recorded when it is missing, and anew with `--nanobot-record=always`. The provider is made with the configuration and the
    keys from outside of the test, also beside `nanobot_home`.
    """
    # deferred: see the module
    from nanobot.testing import cassette

    folder = request.path.parent / "cassettes" / request.path.stem
    test = "".join(c if c.isalnum() or c in "-_" else "_" for c in request.node.name)

    def load(
        provider: Callable[[], Provider], *, name: str = "", **arguments: Any
    ) -> RecordingProvider | ReplayProvider:
        arguments.setdefault("record", request.config.getoption("--nanobot-record"))

        def make() -> Provider:
            with pytest.MonkeyPatch.context() as environment:
                for variable, value in request.node.stash.get(_OUTSIDE, {}).items():
                    environment.setenv(variable, value)
                return provider()

        return cassette(folder / f"{test}{name and '.' + name}.jsonl", make, **arguments)

    return load


@pytest.fixture
def nanobot_no_leaks() -> Iterator[None]:
    """Fails the test if tasks of the engine, files, sockets, threads or child processes that began in it outlive it.

    Around the whole test and its other fixtures, so name it first. In a coroutine, `async with no_leaks()` sees the loop's
    own tasks as well.
    """
    # deferred: see the module
    from nanobot.testing import no_leaks

    with no_leaks():
        yield


@pytest.fixture
def nanobot_clock() -> MockClock:
    """A virtual clock for Trio, see `nanobot.testing.virtual_clock`; pytest-trio runs the test on it."""
    # deferred: see the module
    from nanobot.testing import virtual_clock

    return virtual_clock()
