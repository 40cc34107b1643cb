"""Shell completion: the line for the shell, and names of commands without importing them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import Invoke

PROGRAM = (
    "import sys; from nanobot.cli import main\n"
    "try: main(prog_name='nanobot')\n"
    "finally: print([name for name in ('rich', 'httpx', 'trio') if name in sys.modules])"
)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_line(invoke: Invoke, shell: str) -> None:
    answer = invoke("completion", shell)
    assert answer.exit_code == 0
    assert "_NANOBOT_COMPLETE" in answer.stdout


def test_the_shell_is_taken_from_the_environment(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "function _nanobot_completion" in invoke("completion").stdout
    monkeypatch.setenv("SHELL", "/bin/csh")
    answer = invoke("completion")
    assert answer.exit_code == 1
    assert "nanobot completion bash" in answer.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("nanobot st", ["plain,status"]),
        ("nanobot sessions ex", ["plain,export"]),
        ("nanobot agent --mo", ["plain,--model"]),
    ],
)
def test_words_are_completed(words: str, completed: list[str]) -> None:
    found = complete(words)
    assert found[:-1] == completed


def test_completing_a_command_imports_none() -> None:
    assert complete("nanobot s")[-1] == "[]"


def complete(words: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "_NANOBOT_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.splitlines()
