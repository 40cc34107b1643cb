"""Files that the user names may be pipes: they are read to their end, and nobody waits for one without knowing it."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nanobot.cli._named_file import read_named
from nanobot.testing import scripted_server

from .conftest import Configure, Invoke
from .terminal import NANOBOT, open_pty

CASE = {"id": 1, "question": "Capital of France?", "expected": "Paris"}
SESSION = {"key": "mine", "messages": [{"role": "user", "content": "hello"}]}

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.fixture
def pipe(home: Path) -> Path:
    os.mkfifo(home / "pipe")
    return home / "pipe"


def test_a_file_is_read(home: Path) -> None:
    (home / "file").write_bytes(b"all of it")
    assert read_named("file") == b"all of it"


def test_a_pipe_is_read_until_its_last_writer_has_closed_it(
    pipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = os.open(pipe, os.O_RDWR)  # which does not wait for a reader
    second = os.open(pipe, os.O_WRONLY)
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(read_named, str(pipe))
        os.write(first, b"by one, ")
        os.write(second, b"x" * 1_000_000)  # more than a pipe holds, so it is being read
        os.close(first)
        os.write(second, b" by another")
        os.close(second)
        assert reading.result(60) == b"by one, " + b"x" * 1_000_000 + b" by another"
    assert capsys.readouterr().err == ""


def test_a_pipe_whose_writer_has_left_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    assert read_named(f"/dev/fd/{reader}") == b""
    os.close(reader)
    assert capsys.readouterr().err == ""


def test_whoever_waits_for_a_writer_knows_it(configure: Configure, pipe: Path) -> None:
    with scripted_server(lambda request: "It is Paris.") as server:
        configure(server.base_url)
        with open_pty("eval", "pipe", "--output", "results.jsonl") as terminal:
            terminal.wait_for("Waiting for somebody to write to the pipe pipe; Ctrl-C stops.")
            pipe.write_text(json.dumps(CASE))
            terminal.wait_for("100.0%")
            assert terminal.wait() == 0


def test_ctrl_c_ends_the_waiting(configure: Configure, pipe: Path) -> None:
    configure("http://127.0.0.1:9/v1")
    with open_pty("sessions", "import", "pipe") as terminal:
        terminal.wait_for("Waiting for somebody")
        terminal.send("\x03")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize("how", ["<(cat session)", "/dev/stdin < session", "- < session"])
@pytest.mark.parametrize("through", ["", "cat session | "])
def test_a_session_is_imported_from_whatever_a_shell_makes_of_a_file(
    configure: Configure, home: Path, how: str, through: str
) -> None:
    configure("http://127.0.0.1:9/v1")
    (home / "session").write_text(json.dumps(SESSION))
    if through:
        how = how.removesuffix(" < session")
    answer = subprocess.run(
        ["bash", "-c", f'{through}"$@" sessions import {how}', "-", *NANOBOT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "1 brought in.\n")


def test_results_need_a_name_if_the_cases_have_none(
    invoke: Invoke, configure: Configure, pipe: Path
) -> None:
    configure("http://127.0.0.1:9/v1")
    answer = invoke("eval", str(pipe))
    assert answer.exit_code == 1
    assert "Name one with --output." in answer.stderr
