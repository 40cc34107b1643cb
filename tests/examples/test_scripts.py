"""Each example that ends by itself is run as it stands, and prints what its first lines promise."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import EXAMPLES

Run = Callable[..., list[str]]


def test_sync_script(run_example: Run) -> None:
    first, spent, *rest = run_example("sync_script.py")
    assert first == "There are notes.txt and plan.md."
    assert spent.endswith("tokens, tools: list_dir]")
    assert rest == ["Hello from a scripted model."]


def test_tools_with_deps(run_example: Run) -> None:
    assert run_example("tools_with_deps.py") == [
        "alice: Order 7 of alice is cancelled. ['cancel_order']",
        "alice: Error: There is no order 8 of this user. []",
        "order 7: cancelled",
    ]


def test_structured_extraction(run_example: Run) -> None:
    assert run_example("structured_extraction.py") == [
        "1: order by Ada: 2 x lamp, 1 x chair, due 2026-12-24",
        "2: complaint by Charles: -, due None",
        "3: by hand, please (14 characters of an answer)",
    ]


def test_approval_flow(run_example: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\ntoo much\n"))
    lines = run_example("approval_flow.py")
    asked = "yes, or why not: "
    assert [line.replace(asked, "") for line in lines] == [
        "order:7 wants refund(order=7, amount=20)",
        "20 paid back for order 7",
        "order:8 wants refund(order=8, amount=500)",
        "Not done: too much",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("example_home")
def test_parked_approval_in_a_process_for_each_step() -> None:
    def step(*arguments: str) -> list[str]:
        command = [sys.executable, str(EXAMPLES / "parked_approval.py"), *arguments]
        ran = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
        return ran.stdout.splitlines()

    ids = []
    for order, amount in (("7", "20"), ("8", "500")):
        (line,) = step("ask", order, amount)
        assert line.startswith(f"order:{order} waits for approval ")
        ids.append(line.split()[-1])
    assert step("go-on") == []  # nobody has decided yet
    assert step("approve", ids[0]) == ["order:7: approved"]
    assert step("deny", ids[1], "too much") == ["order:8: denied"]
    assert [line.split()[:3] for line in step("list")] == [
        [ids[0], "approved", "order:7"],
        [ids[1], "denied", "order:8"],
    ]
    assert step("go-on") == ["order:7: 20 paid back for order 7", "order:8: Not done: too much"]
    assert step("go-on") == step("list") == []


def test_parked_approval(run_example: Run) -> None:
    (asked,) = run_example("parked_approval.py", "ask", "7", "20")
    assert run_example("parked_approval.py", "approve", asked.split()[-1]) == ["order:7: approved"]
    assert run_example("parked_approval.py", "go-on") == ["order:7: 20 paid back for order 7"]


def test_many_letters(run_example: Run) -> None:
    lines = run_example("many_letters.py")
    assert sorted(lines)[:2] == ["1: order by Ada", "2: complaint by Charles"]
    assert len(lines) == 3
    assert sorted(lines)[2].startswith("3: The model was asked for Letter 3 times")


def test_subagents(run_example: Run) -> None:
    *calls, content, spent = run_example("subagents.py")
    assert calls == ["[agent] spawn Describe notes.txt.", "[agent] spawn Describe plan.md."]
    assert content == "One is a note, the other a plan."
    assert spent == "2 subagents, 30 of their tokens"


@pytest.mark.parametrize("from_file", [False, True])
def test_longmemeval_ingest(run_example: Run, tmp_path: Path, from_file: bool) -> None:
    arguments = []
    if from_file:
        case = {
            "question_id": "own",
            "question": "What degree did I graduate with?",
            "question_date": "2023/05/30 (Tue) 23:40",
            "answer": "Physics",
            "haystack_dates": ["2023/05/20 (Sat) 02:21"],
            "haystack_session_ids": ["s"],
            "haystack_sessions": [[{"role": "user", "content": "I graduated in Music."}]],
        }
        (tmp_path / "cases.json").write_text(json.dumps([case]))
        arguments = [str(tmp_path / "cases.json")]
    expected = (
        ["own: wrong: In Music.", "0 of 1 right"]
        if from_file
        else ["degree: right: In Business Administration.", "1 of 1 right"]
    )
    assert run_example("longmemeval_ingest.py", *arguments) == expected


def test_eval_runner(run_example: Run) -> None:
    outcomes = {line["case"]: line for line in map(json.loads, run_example("eval_runner.py"))}
    assert {name: outcome["right"] for name, outcome in outcomes.items()} == {
        "files": True,
        "greeting": True,
        "impossible": False,
    }
    assert "401" in outcomes["impossible"]["error"]


@pytest.mark.usefixtures("example_home")
def test_opentelemetry_console() -> None:
    # A process of its own: its exporters take the stdout of when their module was first imported.
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "opentelemetry_console.py"],
        capture_output=True,
        check=True,
        text=True,
        cwd=EXAMPLES.parent,
    )
    printed = ran.stdout.splitlines()
    spans = [line.partition(" ms  ")[2] for line in printed if " ms  " in line]
    assert "invoke_agent nanobot, 10 tokens" in spans
    assert "execute_tool list_dir" in spans
    assert "one request of a user" in spans
    assert '"name": "gen_ai.client.token.usage"' in "\n".join(printed)


def test_every_example_is_tested_and_listed() -> None:
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert path.stem in tests
            assert f"examples/{path.name}" in page
