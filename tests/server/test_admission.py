"""Who is let in: never more than the bounds, and whoever leaves makes room. Driven without a clock."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanobot.server._admission import Admission
from nanobot.server._api_error import ApiError

KEYS = st.sampled_from("abc")


@given(st.lists(st.tuples(st.sampled_from(["enter", "reject", "leave"]), KEYS)))
@example([("enter", key) for key in "aaabbbc"])
@example([("enter", key) for key in "aabcc"])
def test_the_bounds_hold_whoever_comes_and_goes(steps: list[tuple[str, str]]) -> None:
    admission = Admission(max_requests=4, max_per_session=2)
    inside: Counter[str] = Counter()
    for step, key in steps:
        if step == "leave":
            if inside[key]:
                inside[key] -= 1
                admission.leave(key)
            continue
        status = 0
        try:
            admission.enter(key, unless_busy=step == "reject")
        except ApiError as refused:
            status = refused.status
        if step == "reject" and inside[key]:
            assert status == 409
        elif inside.total() == 4 or inside[key] == 2:
            assert status == 429
        else:
            assert status == 0
            inside[key] += 1
        assert admission.requests == inside.total()


def test_who_is_refused_is_told_when_to_come_again() -> None:
    admission = Admission(max_requests=1, max_per_session=1)
    admission.enter("a")
    with pytest.raises(ApiError) as full:
        admission.enter("b")
    assert int(full.value.headers["retry-after"]) >= 1
    assert "x-should-retry" not in full.value.headers
