"""The pytest plugin, in test suites of its own: what the fixtures do, and that it costs nothing to have."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

from nanobot.testing import scripted_server

pytest_plugins = "pytester"

SUITE = """
import asyncio
import os
import socket
from pathlib import Path

import pytest
import trio

from nanobot.testing import Answer, ScriptedProvider


@pytest.mark.asyncio
async def test_asyncio(nanobot_bot):
    bot = nanobot_bot(["Hello"])
    assert (await bot.run("Hi")).content == "Hello"


def test_trio_on_a_virtual_clock(nanobot_bot, nanobot_clock):
    async def main():
        bot = nanobot_bot([Answer("Hello", before_first_delta_s=3600)])
        started = trio.current_time()
        assert (await bot.run("Hi")).content == "Hello"
        assert trio.current_time() - started == 3600

    trio.run(main, clock=nanobot_clock)


def test_sync(nanobot_bot):
    assert nanobot_bot(["Hello"]).run_sync("Hi").content == "Hello"


def test_home(nanobot_home):
    assert Path.home() == nanobot_home
    assert "OPENAI_API_KEY" not in os.environ


def test_server(nanobot_server):
    server = nanobot_server(["Hello"])
    socket.create_connection((server.host, server.port)).close()


def test_nothing_left(nanobot_no_leaks, nanobot_bot):
    assert nanobot_bot(["Hello"]).run_sync("Hi").content == "Hello"


def test_something_left(nanobot_no_leaks):
    test_something_left.kept = open(os.devnull)


def test_cassette(nanobot_bot, nanobot_cassette):
    bot = nanobot_bot(nanobot_cassette(lambda: ScriptedProvider(["Hello"])))
    assert bot.run_sync("Hi").content == "Hello"
"""


def test_the_fixtures_are_there_and_do_what_they_say(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    arguments = ("-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider")
    ran = pytester.runpytest_subprocess(*arguments, "-W", "ignore::ResourceWarning")
    outcomes = ran.parseoutcomes()
    assert outcomes.get("failed", 0) == 0, ran.stdout.str()
    assert outcomes["passed"] == 8, (
        ran.stdout.str()
    )  # a leak is found after its test, so it is an error
    assert outcomes["errors"] == 1, ran.stdout.str()
    ran.stdout.fnmatch_lines(["*LeakError*"])
    tapes = [path.name for path in pytester.path.glob("cassettes/**/*.jsonl")]
    assert tapes == ["test_cassette.jsonl"]
    again = pytester.runpytest_subprocess(
        *arguments, "--nanobot-record=never", "-k", "test_cassette"
    )
    again.assert_outcomes(passed=1, deselected=7)


RECORDED = """
from nanobot.testing import configured_provider


def test_a_real_model(nanobot_bot, nanobot_cassette):
    bot = nanobot_bot(nanobot_cassette(configured_provider), model="openai/gpt-4.1")
    assert bot.run_sync("Hi").content == "Hello"
"""


def test_a_cassette_is_recorded_with_the_keys_from_outside_and_replayed_without(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(RECORDED)
    arguments = ("-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with scripted_server(["Hello"]) as server, monkeypatch.context() as outside:
        outside.setenv("OPENAI_API_KEY", "sk-test")
        outside.setenv("OPENAI_BASE_URL", server.base_url)
        pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)
        assert server.requests[0].headers["authorization"] == "Bearer sk-test"
        assert server.requests[0].model == "gpt-4.1"
    pytester.runpytest_subprocess(*arguments, "--nanobot-record=never").assert_outcomes(passed=1)


BESIDE_PYTEST_TRIO = """
import pytest
import trio

from nanobot.testing import Answer, no_leaks


@pytest.mark.trio
async def test_the_clock_is_the_tests(nanobot_bot, nanobot_clock):
    bot = nanobot_bot([Answer("Hello", before_first_delta_s=3600)])
    started = trio.current_time()
    assert (await bot.run("Hi")).content == "Hello"
    assert trio.current_time() - started == 3600


@pytest.mark.trio
async def test_beside_its_fixtures(nanobot_no_leaks, nanobot_bot, nursery):
    async with no_leaks(), nanobot_bot(["Hello"]) as bot:
        assert (await bot.run("Hi")).content == "Hello"


@pytest.mark.asyncio
async def test_asyncio_all_the_same(nanobot_bot):
    assert (await nanobot_bot(["Hello"]).run("Hi")).content == "Hello"


def test_sync_all_the_same(nanobot_bot):
    assert nanobot_bot(["Hello"]).run_sync("Hi").content == "Hello"
"""


@pytest.mark.skipif(find_spec("pytest_trio") is None, reason="pytest-trio is not installed")
def test_it_lives_together_with_pytest_trio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BESIDE_PYTEST_TRIO)
    ran = pytester.runpytest_subprocess(
        "-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider"
    )
    ran.assert_outcomes(passed=4)


def test_it_is_found_by_pytest_itself() -> None:
    (found,) = [one for one in entry_points(group="pytest11") if one.name == "nanobot"]
    assert found.value == "nanobot._pytest_plugin"


def test_the_start_of_pytest_imports_nothing_heavy() -> None:
    program = """
import sys
import pytest
before = set(sys.modules)
import nanobot._pytest_plugin
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
print(sorted(name for name in sys.modules if name.startswith("nanobot")))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    new, ours = ran.stdout.splitlines()
    assert new == "['nanobot']"
    assert ours == "['nanobot', 'nanobot._pytest_plugin', 'nanobot._version']"


def test_the_fixtures_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    from nanobot import _pytest_plugin

    for name in _pytest_plugin.__all__:
        if name.startswith("nanobot_"):
            assert f"`{name}`" in page
