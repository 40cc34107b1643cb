"""Every program and every command on the page about the API works as the page says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "openai-api.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n", PAGE, re.DOTALL)
COMMANDS = [each for each in re.findall(r"```sh\n(.*?)```\n", PAGE, re.DOTALL) if "curl" in each]


@pytest.fixture
def port(docs_home: Path) -> Iterator[str]:
    """Where the page's server is, which the page has on port 8900."""
    command = [sys.executable, "-m", "nanobot", "serve", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r":(\d+)/v1$", line.strip())
        assert match, line
        shown = line.replace(match[1], "8900")
        assert shown in PAGE
        yield match[1]
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_gets_its_answer(command: str, port: str, docs_home: Path) -> None:
    completed = subprocess.run(
        ["sh", "-c", command.replace("8900", port)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=docs_home / ".nanobot" / "workspace",
        check=True,
    )
    assert "There are notes.txt and plan.md." in completed.stdout


@pytest.mark.peer
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_gets_its_answer(program: str, port: str) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", program.replace("8900", port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (completed.returncode, completed.stdout) == (
        0,
        "There are notes.txt and plan.md.\n",
    ), completed.stderr
