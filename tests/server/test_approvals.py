"""Parked turns over HTTP: a client sees what waits, decides about it if it may, and has the turn go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from nanobot.config import load_config
from nanobot.errors import ApprovalGone
from nanobot.providers import ModelRequest
from nanobot.server import ServerSettings, settings_from_config
from nanobot.testing import Answer
from tests.server.parking import CALL, launched, make_bot
from tests.server.servers import Served, events_of, serving

DECIDING = ServerSettings(decide_approvals=True)


@pytest.fixture(autouse=True)
def _nothing_launched() -> None:
    launched.clear()


def says_what_it_heard(request: ModelRequest) -> Answer | str:
    """A model that launches first, and then says what became of it."""
    last = request.messages[-1]
    return CALL if type(last).__name__ == "UserMessage" else f"It was: {last.content}"


async def park(served: Served, *names: str) -> list[str]:
    """Have a turn of each session parked; returns the ids of what they wait for."""
    ids = []
    for name in names:
        body = (await served.chat("Go", session_id=name)).json()
        ids.append(body["nanobot"]["approval"]["id"])
    return ids


async def decide(served: Served, approval_id: str, **decision: Any) -> httpx.Response:
    return await served.client.post(f"/v1/approvals/{approval_id}", json=decision)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_a_client_sees_what_waits_approves_it_and_has_the_answer(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        first, second = await park(served, "s", "t")
        listed = (await served.client.get("/v1/approvals")).json()
        assert {one["id"] for one in listed["data"]} == {first, second}
        of_one = (await served.client.get("/v1/approvals", params={"session_id": "s"})).json()
        (waiting,) = of_one["data"]
        assert waiting == (await served.client.get(f"/v1/approvals/{first}")).json()
        assert (waiting["state"], waiting["session_key"]) == ("waiting", "api:s")
        assert (waiting["name"], waiting["arguments"]) == ("launch", {"target": "moon"})

        decided = await decide(served, first, decision="approved")
        assert (decided.status_code, decided.json()["state"]) == (200, "approved")
        assert launched == []  # until the turn goes on
        answer = (await served.client.post("/v1/resume", json={"session_id": "s"})).json()
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"].endswith("It was: launched to moon")
        assert launched == ["moon"]
        listed = (await served.client.get("/v1/approvals")).json()
        assert [one["id"] for one in listed["data"]] == [second]


async def test_a_denial_reaches_the_model_with_its_reason(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        (waiting,) = await park(served, "s")
        decided = await decide(served, waiting, decision="denied", reason="Not on a Friday.")
        assert (decided.json()["state"], decided.json()["reason"]) == ("denied", "Not on a Friday.")
        answer = (await served.client.post("/v1/resume", json={"session_id": "s"})).json()
        assert "Not on a Friday." in answer["choices"][0]["message"]["content"]
        assert launched == []


async def test_a_turn_that_goes_on_is_streamed_like_any_other(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        (waiting,) = await park(served, "s")
        await decide(served, waiting, decision="approved")
        answer = await served.client.post("/v1/resume", json={"session_id": "s", "stream": True})
        *events, end = events_of(answer.text)
        said = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        assert (said.strip(), end) == ("It was: launched to moon", "[DONE]")


async def test_of_two_who_decide_at_once_one_does(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        (waiting,) = await park(served, "s")
        answers: list[httpx.Response] = []

        async def try_to(decision: str) -> None:
            answers.append(await decide(served, waiting, decision=decision))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_to, "approved")
            nursery.start_soon(try_to, "denied")
        winner, loser = sorted(answers, key=lambda answer: answer.status_code)
        assert winner.status_code == 200
        assert code_of(loser) == (409, "approval_decided")
        (kept,) = served.bot.approvals.list()
        assert kept.state == winner.json()["state"]


async def test_what_is_decided_elsewhere_goes_on_here_without_any_leave(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard)) as served:
        (waiting,) = await park(served, "s")
        early = await served.client.post("/v1/resume", json={"session_id": "s"})
        assert code_of(early) == (422, "nothing_to_resume")
        assert early.headers["x-should-retry"] == "false"
        served.bot.approvals.approve(waiting)
        answer = await served.client.post("/v1/resume", headers={"x-session-id": "s"}, json={})
        assert answer.json()["choices"][0]["message"]["content"].endswith("launched to moon")
        for stream in (False, True):
            late = {"session_id": "s", "stream": stream}
            again = await served.client.post("/v1/resume", json=late)
            assert code_of(again) == (422, "nothing_to_resume")


async def test_those_who_ask_may_not_approve_unless_they_are_let(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard)) as served:
        (waiting,) = await park(served, "s")
        for answer in (
            await served.client.get("/v1/approvals"),
            await served.client.get(f"/v1/approvals/{waiting}"),
            await decide(served, waiting, decision="approved"),
        ):
            assert code_of(answer) == (403, "approvals_not_allowed")
        assert [one.state for one in served.bot.approvals.list()] == ["waiting"]
        document = (await served.client.get("/openapi.json")).json()
        assert "/v1/approvals" not in document["paths"]
        assert "PendingApproval" not in document["components"]["schemas"]


async def test_it_needs_the_key_that_everything_needs(tmp_path: Path) -> None:
    settings = ServerSettings(decide_approvals=True, api_key="secret")
    async with serving(make_bot(tmp_path, says_what_it_heard), settings) as served:
        for method, path, body in (
            ("GET", "/v1/approvals", None),
            ("GET", "/v1/approvals/1", None),
            ("POST", "/v1/approvals/1", {"decision": "approved"}),
            ("POST", "/v1/resume", {}),
        ):
            answer = await served.client.request(method, path, json=body)
            assert code_of(answer) == (401, "invalid_api_key"), path
        with_key = {"authorization": "Bearer secret"}
        listed = await served.client.get("/v1/approvals", headers=with_key)
        assert listed.json() == {"data": [], "object": "list"}


async def test_sessions_of_others_are_not_there(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        assert (await served.bot.run("Go", session_key="cli:direct")).stop_reason == "parked"
        (waiting,) = served.bot.approvals.list()
        assert (await served.client.get("/v1/approvals")).json()["data"] == []
        assert (await served.client.get(f"/v1/approvals/{waiting.id}")).status_code == 404
        refused = await decide(served, waiting.id, decision="approved")
        assert code_of(refused) == (404, "approval_unknown")
        assert [one.state for one in served.bot.approvals.list()] == ["waiting"]


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b'{"decision": "maybe"}', "application/json", (400, "invalid_value")),
        (b'{"reason": "?"}', "application/json", (400, "invalid_value")),
        (b"yes", "application/json", (400, "invalid_json")),
        (
            b"decision=approved",
            "application/x-www-form-urlencoded",
            (415, "unsupported_media_type"),
        ),
    ],
)
async def test_what_is_no_decision_decides_nothing(
    tmp_path: Path, content: bytes, kind: str, expected: Sequence[object]
) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        (waiting,) = await park(served, "s")
        answer = await served.client.post(
            f"/v1/approvals/{waiting}", content=content, headers={"content-type": kind}
        )
        assert code_of(answer) == expected
        assert [one.state for one in served.bot.approvals.list()] == ["waiting"]


async def test_a_message_gives_the_turn_up_and_nobody_can_decide_any_more(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, [CALL, "Never mind."]), DECIDING) as served:
        (waiting,) = await park(served, "s")
        await served.chat("Forget it", session_id="s")
        refused = await decide(served, waiting, decision="approved")
        assert code_of(refused) == (404, "approval_unknown")
        with pytest.raises(ApprovalGone):
            served.bot.approvals.approve(waiting)


async def test_another_method_is_told_all_that_there_are(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        answer = await served.client.put("/v1/approvals/1", json={})
    assert code_of(answer) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


async def test_the_description_has_what_clients_may_do(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, says_what_it_heard), DECIDING) as served:
        document = (await served.client.get("/openapi.json")).json()
    assert {"/v1/resume", "/v1/approvals", "/v1/approvals/{id}"} <= document["paths"].keys()
    schemas = document["components"]["schemas"]
    assert schemas["ApprovalDecision"]["required"] == ["decision"]
    assert {"ApprovalList", "PendingApproval", "ResumeRequest"} <= schemas.keys()


@pytest.mark.parametrize(("section", "lets"), [({}, False), ({"decideApprovals": True}, True)])
def test_it_is_a_setting_of_the_api(tmp_path: Path, section: dict[str, Any], lets: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"api": section}))
    api = load_config(tmp_path / "config.json").api
    assert settings_from_config(api).decide_approvals is lets
