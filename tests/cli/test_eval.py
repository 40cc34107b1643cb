"""`nanobot eval`: cases, scores, and going on after Ctrl-C or a kill."""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.cli._eval_case import Case, Match, cases_from_lines, score_of, verdict_from_judge
from nanobot.cli._eval_results import Result, ResultFile, summary_of
from nanobot.cli._failure import Failure
from nanobot.testing import Answer, HttpResponse, RecordedRequest, scripted_server
from tests.special_files import any_special_file, make_special

from .conftest import Configure, Invoke
from .terminal import open_pty


def write_cases(home: Path, *cases: dict[str, Any]) -> None:
    (home / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))


def results_of(home: Path) -> dict[str, Any]:
    lines = (home / "cases.results.jsonl").read_text().splitlines()
    return {found["id"]: found for found in map(json.loads, lines)}


def question_of(request: RecordedRequest) -> str:
    return str(request.json["messages"][-1]["content"])


@pytest.mark.parametrize(
    ("match", "expected", "answer", "right"),
    [
        ("contains", "Paris", "It is  paris.", True),
        ("contains", ["Rome", "Paris"], "Paris", True),
        ("contains", 42, "about 42 of them", True),
        ("contains", "Paris", "Rome", False),
        ("exact", "Paris", " paris\n", True),
        ("exact", "Paris", "Paris!", False),
        ("regex", r"^\d+$", "42", True),
        ("regex", r"^\d+$", "a 42", False),
    ],
)
def test_an_answer_is_right_as_its_case_says(
    match: Match, expected: Any, answer: str, right: bool
) -> None:
    assert score_of(Case(id=1, question="?", expected=expected, match=match), answer) is right


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Yes.", True),
        ("no", False),
        ("**No**, it is not", False),
        ("yes and no", None),
        ("?", None),
    ],
)
def test_a_judge_says_yes_or_no(reply: str, verdict: bool | None) -> None:
    assert verdict_from_judge(reply) is verdict


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 1}', "line 1"),
        ('{"id": 1, "question": "?", "expected": "x", "mach": "exact"}', "mach"),
        ('{"id": 1, "question": "?", "expected": "(", "match": "regex"}', "line 1"),
        ('{"id": 1, "question": "?", "expected": "x"}\n' * 2, "stands twice"),
        ("\n\n", "no case"),
        ('{"id": "\udcff", "question": "?", "expected": "x"}', "line 1"),
        ('{"id": 1, "messages": ' + "[" * 100_000, "line 1"),
    ],
    ids=range(7),
)
def test_a_file_with_a_bad_case_is_refused_before_anything_runs(text: str, said: str) -> None:
    with pytest.raises(Failure) as failure:
        cases_from_lines(text.encode(errors="surrogateescape").split(b"\n"), place="cases.jsonl")
    assert said in failure.value.message


def test_cases_that_an_editor_has_saved_are_cases() -> None:
    line = b'{"id": 1, "question": "?", "expected": "x"}\r\n'
    (case,) = cases_from_lines([b"\xef\xbb\xbf" + line, b"\r\n"], place="cases.jsonl")
    assert case.question == "?"


def test_cases_are_ingested_asked_and_scored(
    invoke: Invoke, configure: Configure, home: Path
) -> None:
    def answer(request: RecordedRequest) -> Answer | HttpResponse:
        if "Judge an answer" in question_of(request):
            return Answer("yes" if "somewhere in France" in question_of(request) else "no")
        if "broken" in question_of(request):
            return HttpResponse(400)
        said = json.dumps(request.json["messages"])
        return Answer("It is Paris." if "moved to Paris" in said else "No idea.")

    told = [
        {"role": "user", "content": "I moved to Paris."},
        {"role": "assistant", "content": "Oh."},
    ]
    write_cases(
        home,
        {"id": "a", "messages": told, "question": "Where do I live?", "expected": "Paris"},
        {"id": "b", "question": "Where do I live?", "expected": "Paris"},
        {"id": "c", "messages": told, "question": "Where?", "expected": "somewhere in France", "match": "judge"},
        {"id": "d", "question": "broken", "expected": "x"},
    )  # fmt: skip
    with scripted_server(answer) as server:
        configure(server.base_url)
        answered = invoke("eval", "cases.jsonl", "--json")
    assert answered.exit_code == 1  # one has no verdict
    summary = json.loads(answered.stdout)
    assert (summary["right"], summary["wrong"], summary["failed"]) == (2, 1, 1)
    found = results_of(home)
    assert [found[name]["ok"] for name in "abcd"] == [True, False, True, None]
    assert found["a"]["usage"]["total_tokens"] == 15
    assert "HTTP 400" in found["d"]["error"]


def test_a_second_run_does_only_what_is_left(
    invoke: Invoke, configure: Configure, home: Path
) -> None:
    write_cases(home, *({"id": n, "question": f"case {n}", "expected": "yes"} for n in range(3)))
    broken = {"case 1"}

    def answer(request: RecordedRequest) -> Answer | HttpResponse:
        if any(name in question_of(request) for name in broken):
            return HttpResponse(400)
        return Answer("yes")

    with scripted_server(answer) as server:
        configure(server.base_url)
        assert invoke("eval", "cases.jsonl").exit_code == 1
        broken.clear()
        asked = len(server.requests)
        assert invoke("eval", "cases.jsonl").exit_code == 0
        assert [question_of(one)[:6] for one in server.requests[asked:]] == ["case 1"]
        assert invoke("eval", "cases.jsonl", "--fail-under", "1").exit_code == 0
        assert len(server.requests) == asked + 1
        assert invoke("eval", "cases.jsonl", "--fresh").exit_code == 0
        assert len(server.requests) == asked + 4


def test_a_score_that_is_too_low_fails(invoke: Invoke, configure: Configure, home: Path) -> None:
    write_cases(home, {"id": 1, "question": "?", "expected": "x"})
    with scripted_server(["y"]) as server:
        configure(server.base_url)
        assert invoke("eval", "cases.jsonl", "--fail-under", "0.5").exit_code == 1


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_ended_goes_on_where_it_was(
    invoke: Invoke, configure: Configure, home: Path, end: signal.Signals
) -> None:
    write_cases(home, *({"id": n, "question": f"case {n}", "expected": "yes"} for n in range(8)))
    slow = True

    def answer(request: RecordedRequest) -> Answer:
        late = slow and int(question_of(request).split()[1]) >= 4
        return Answer("yes", before_first_delta_s=30.0 if late else 0.0)

    with scripted_server(answer) as server:
        configure(server.base_url)
        with open_pty("eval", "cases.jsonl", "--concurrency", "2") as terminal:
            server.wait_until(lambda counts: counts.requests == 6, timeout_s=30.0)
            if end == signal.SIGINT:
                terminal.send("\x03")
                assert terminal.wait() == 130
                assert "goes on from here" in terminal.text
            else:
                terminal.process.kill()
                terminal.wait()
        slow = False
        done = len(results_of(home))
        assert done >= 3  # the fourth may have been under way to the disk
        asked = len(server.requests)
        assert invoke("eval", "cases.jsonl").exit_code == 0
        assert len(server.requests) == asked + 8 - done
    assert [found["ok"] for found in results_of(home).values()] == [True] * 8


def test_half_a_line_of_a_killed_run_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultFile(path, fresh=False) as results:
        results.add(Result(id="a", ok=True))
    with path.open("ab") as file:
        file.write(
            b'{"id":"b","ok":true,"answer":"' + b"x" * 500
        )  # longer than what comes in its place
    with ResultFile(path, fresh=False) as results:
        assert (results.done("a"), results.done("b")) == (True, False)
        results.add(Result(id="b", ok=False))
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b"]
    with ResultFile(path, fresh=False) as results:
        assert results.done("b")


def test_a_file_that_is_no_result_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear all,\nhello\n")
    with pytest.raises(Failure):
        ResultFile(path, fresh=False)
    assert path.read_text() == "Dear all,\nhello\n"


@pytest.mark.parametrize("line", [b'{"id": "\xff", "ok": true}\n', b"[" * 100_000 + b"\n"])
def test_a_line_that_nothing_can_read_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(line)
    with pytest.raises(Failure, match="line 1"):
        ResultFile(path, fresh=False)
    assert path.read_bytes() == line


@pytest.mark.parametrize("fresh", [False, True])
@any_special_file
def test_results_go_only_into_a_file(tmp_path: Path, kind: str, fresh: bool) -> None:
    make_special(tmp_path / "results.jsonl", kind)
    with pytest.raises(Failure, match=rf"results\.jsonl cannot be written: not a .* but {kind}"):
        ResultFile(tmp_path / "results.jsonl", fresh=fresh)


@given(st.lists(st.sampled_from([True, False, None]), max_size=30))
def test_the_summary_counts_every_case_once(verdicts: list[bool | None]) -> None:
    summary = summary_of([Result(id=str(n), ok=ok, latency_ms=n) for n, ok in enumerate(verdicts)])
    assert summary.right + summary.wrong + summary.failed == summary.cases == len(verdicts)
    assert 0.0 <= summary.score <= 1.0


def test_plot_without_matplotlib_says_how_to_get_it(
    invoke: Invoke, configure: Configure, home: Path
) -> None:
    write_cases(home, {"id": 1, "question": "?", "expected": "x"})
    with scripted_server(lambda request: "x") as server:
        configure(server.base_url)
        answer = invoke("eval", "cases.jsonl", "--plot", "out.png")
    if importlib.util.find_spec("matplotlib") is None:
        assert answer.exit_code == 1
        assert "pip install 'nanobot-ai[plot]'" in answer.stderr
        assert not (home / "cases.results.jsonl").exists()
    else:
        assert answer.exit_code == 0, answer.output
        assert (home / "out.png").read_bytes().startswith(b"\x89PNG")
