"""The `nanobot` command: quick to answer, and clear when it is asked for what it does not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nanobot import __version__
from nanobot.cli import main
from nanobot.cli._group import DeferredGroup


def test_version_names_the_program_and_its_version() -> None:
    answer = CliRunner().invoke(main, ["--version"])
    assert answer.output == f"nanobot {__version__}\n"


def test_an_unknown_command_is_refused_by_name() -> None:
    answer = CliRunner().invoke(main, ["dmeo"])
    assert answer.exit_code == 2
    assert "No such command 'dmeo'" in answer.output


def test_help_lists_the_commands_and_imports_none_of_them() -> None:
    script = (
        "import sys; from nanobot.cli import main; main(['--help'], standalone_mode=False);"
        "print([name for name in ('httpx', 'rich', 'nanobot.cli._demo') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "demo" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["demo", "serve", "agent", "gateway", "config"])
def test_help_of_a_command_imports_no_sdk(command: str) -> None:
    script = (
        f"import sys; from nanobot.cli import main; main(['{command}', '--help'], standalone_mode=False);"
        "print([name for name in ('httpx', 'trio', 'nanobot.sdk') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "[]"


def test_python_dash_m_nanobot_is_the_same_command() -> None:
    command = [sys.executable, "-m", "nanobot", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == f"nanobot {__version__}\n"


def test_a_deferred_command_is_imported_when_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_slow_command.py").write_text(
        "import click\n@click.command()\ndef greet(): click.echo('hello')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    place = ("a_slow_command:greet", "Say hello.")
    group = click.group(cls=DeferredGroup, deferred={"greet": place})(lambda: None)
    assert "Say hello." in CliRunner().invoke(group, ["--help"]).output
    assert "a_slow_command" not in sys.modules
    assert CliRunner().invoke(group, ["greet"]).output == "hello\n"
