"""`/v1/approvals`: what parked turns of the API's sessions wait for, and deciding about it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from nanobot.errors import NanobotError
from nanobot.sdk import ApprovalsClient, PendingApproval

from ._api_error import ApiError
from ._approval_wire import ApprovalDecision, ApprovalList
from ._client import Client
from ._following import noted
from ._json_body import content_kind, decoded, is_json, refused_kind
from ._question import SESSION_PREFIX
from ._service import Service

__all__ = ["ApprovalApi"]

T = TypeVar("T")


_DECISION: Final[msgspec.json.Decoder[ApprovalDecision]] = msgspec.json.Decoder(ApprovalDecision)


class ApprovalApi:
    """The routes, for clients who may decide; others are told what to set.

    Sessions that did not begin here are none of a client's business: their approvals are not there.
    """

    def __init__(self, service: Service, approvals: ApprovalsClient) -> None:
        self._service = service
        self._approvals = approvals

    async def list(self, request: Request) -> Response:
        """`GET /v1/approvals`, of one session with `?session_id=`."""
        self._check()
        name = request.query_params.get("session_id")
        key = None if name is None else f"{SESSION_PREFIX}{name}"
        found = await _in_thread(partial(self._approvals.list, key))
        return _json(ApprovalList(tuple(one for one in found if _is_ours(one))))

    async def one(self, request: Request) -> Response:
        """`GET` and `POST /v1/approvals/{id}`: to look at it, and to decide."""
        self._check()
        if request.method == "POST":
            return _json(await self._decided(request))
        return _json(await self._found(request.path_params["id"]))

    async def _decided(self, request: Request) -> PendingApproval:
        with Client(request.receive, self._service.budget) as client:
            kind = content_kind(request.headers.get("content-type"))
            if not is_json(kind):
                await client.discard_body()
                raise refused_kind(kind)
            told = decoded(_DECISION, await client.read_body())
        one = await self._found(request.path_params["id"])
        if told.decision == "approved":
            decide = partial(self._approvals.approve, one.id)
        else:
            decide = partial(self._approvals.deny, one.id, told.reason)
        return await _in_thread(decide)

    async def _found(self, approval_id: str) -> PendingApproval:
        one = await _in_thread(partial(self._approvals.get, approval_id))
        if one is None or not _is_ours(one):
            raise ApiError(
                404,
                f"Nobody waits for approval {approval_id:.100}: its turn went on, or was given up.",
                code="approval_unknown",
            )
        return one

    def _check(self) -> None:
        self._service.check_open()
        if not self._service.settings.decide_approvals:
            raise ApiError(
                403,
                "Clients of this server may not decide about tool calls, which would let those who ask approve what they"
                " asked for. Set api.decideApprovals to let them, or use: nanobot approvals",
                code="approvals_not_allowed",
            )


def _is_ours(one: PendingApproval) -> bool:
    return one.session_key.startswith(SESSION_PREFIX)


def _json(value: Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _in_thread(look: Callable[[], T]) -> T:
    """What the store says; it may block."""
    try:
        return await trio.to_thread.run_sync(look)
    except NanobotError as error:
        raise noted(error) from error
