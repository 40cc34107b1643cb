"""What every session store promises, as tests; a store's own test file inherits them.

```python
class TestMyStore(StoreConformance):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return lambda: my_store_in(tmp_path)
```

`open_store()` is an async context manager that opens the same storage each time and closes it at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import StoreError, UsageError
from nanobot.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from nanobot.sessions import (
    Compaction,
    Leased,
    Position,
    SessionExists,
    SessionFenced,
    SessionGone,
    SessionStore,
    open_lease,
    snapshot_of,
)

OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[SessionStore]]

ODD_KEYS = [
    "",
    " ",
    "user:alice",
    "../../etc/passwd",
    "a/b\\c",
    "nul\x00byte",
    "名前 🐈",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "lone \ud800 surrogate",
    "CON",
    "Case",
    "case",
    "k" * 10_000,
    "'; DROP TABLE sessions; --",
    "%_*?",
]


def numbered(first: int, last: int) -> list[Message]:
    return [UserMessage(f"message {number}") for number in range(first, last + 1)]


async def write(store: SessionStore, key: str, messages: list[Message], **more: Any) -> Position:
    async with open_lease(store, key, last=0) as leased:
        return await store.append(leased.lease, messages, **more)


def keys_of(store: SessionStore) -> list[str]:
    return [info.key for info in store.list_sessions()]


def position_of(store: SessionStore, key: str) -> Position | None:
    record = store.read(key)
    return None if record is None else record.position


class StoreConformance:
    """Inherit, and give `open_store`."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        raise NotImplementedError("the inheriting class says how its store is opened")

    # --- reading and writing

    async def test_a_session_that_was_never_written_is_none_and_looking_does_not_create_it(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            assert store.read("nobody") is None
            async with open_lease(store, "nobody") as leased:
                assert leased.record is None
                assert (leased.position.sequence, leased.position.version) == (0, 0)
                assert store.list_sessions() == ()
                await store.append(leased.lease)
            assert store.read("nobody") is None
            assert store.list_sessions() == ()

    async def test_messages_come_back_as_they_were_in_the_order_they_were_appended(
        self, open_store: OpenStore
    ) -> None:
        said: list[Message] = [
            SystemMessage("rule"),
            UserMessage(
                (ImagePart("/tmp/a.png", "image/png"), TextPart("what is this?")),
                media=("/tmp/a.png",),
                timestamp="2023/05/30 (Tue) 17:27",
                metadata={"_runtime_context": "noon", "nested": {"deep": [1, None, "ü"]}},
            ),
            AssistantMessage(
                "",
                (ToolCall("c1", "read_file", '{"path":', {"signature": "x"}),),
                reasoning="hm",
                thinking=(ThinkingBlock("thinking", "hm", "sig", {"data": 1}),),
                interrupted=True,
            ),
            ToolMessage("c1", "read_file", "nul \x00 and \u2028", outcome="timed_out"),
            AssistantMessage("🐈", metadata={"latency_ms": 3}),
        ]
        async with open_store() as store:
            await write(store, "a", said[:2])
            position = await write(store, "a", said[2:])
            record = store.read("a")
            assert record is not None
            assert record.messages == tuple(said)
            assert (record.key, record.position) == ("a", position)
            assert (record.position.sequence, record.first_sequence) == (5, 1)
            assert snapshot_of(record).to_dict()["messages"][1]["nested"] == {
                "deep": [1, None, "ü"]
            }

    @pytest.mark.parametrize(
        ("last", "expected"), [(0, []), (2, [4, 5]), (5, [1, 2, 3, 4, 5]), (99, [1, 2, 3, 4, 5])]
    )
    async def test_only_the_last_messages_are_read_when_asked(
        self, open_store: OpenStore, last: int, expected: list[int]
    ) -> None:
        async with open_store() as store:
            await write(store, "a", numbered(1, 5), metadata={"title": "five"})
            record = store.read("a", last=last)
            assert record is not None
            assert list(record.messages) == [
                UserMessage(f"message {number}") for number in expected
            ]
            assert record.position.sequence == 5
            assert record.first_sequence == 6 - len(expected)
            assert record.metadata == {"title": "five"}

    @pytest.mark.parametrize("count", [1, 63, 64, 65, 1_000])
    async def test_a_lease_comes_with_all_the_messages_that_were_asked_for(
        self, open_store: OpenStore, count: int
    ) -> None:
        said = tuple(UserMessage(f"{number}") for number in range(count))
        async with open_store() as store:
            store.replace("a", said, compaction=Compaction(count // 2, "notes"))
            for last, covered, expected in (
                (None, None, said),
                (None, 0, said[count // 2 :]),
                (70, None, said[-70:]),
            ):
                async with open_lease(store, "a", last=last, covered=covered) as leased:
                    assert leased.record is not None
                    assert leased.record.messages == expected
                    assert leased.record == store.read("a", last=last, covered=covered)

    async def test_a_summary_is_kept_beside_the_messages_and_spares_reading_them(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            await write(store, "a", numbered(1, 10))
            await write(store, "a", [], compaction=Compaction(7, "seven things were said"))
            whole = store.read("a")
            assert whole is not None
            assert len(whole.messages) == 10
            assert whole.compaction == Compaction(7, "seven things were said")
            suffix = store.read("a", covered=2)
            assert suffix is not None
            assert suffix.first_sequence == 6
            assert len(suffix.messages) == 5
            short = store.read("a", covered=2, last=1)
            assert short is not None
            assert short.first_sequence == 10
            await write(store, "a", numbered(11, 11))
            kept = store.read("a", covered=0)
            assert kept is not None
            assert (kept.first_sequence, kept.compaction) == (8, whole.compaction)

    async def test_a_summary_of_messages_that_do_not_exist_is_refused_whole(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            await write(store, "a", numbered(1, 2))
            with pytest.raises(UsageError, match="do not exist"):
                await write(store, "a", numbered(3, 3), compaction=Compaction(4, "too much"))
            record = store.read("a")
            assert record is not None
            assert (record.position.sequence, record.compaction) == (2, None)

    async def test_metadata_is_merged_by_key_and_none_removes(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            await write(store, "a", [], metadata={"title": "one", "keep": {"x": [1]}})
            await write(store, "a", [], metadata={"title": None, "new": 2})
            record = store.read("a")
            assert record is not None
            assert record.metadata == {"keep": {"x": [1]}, "new": 2}

    async def test_changing_metadata_that_was_read_or_written_changes_nothing_stored(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            mine: dict[str, Any] = {"list": [1]}
            await write(store, "a", [], metadata=mine)
            mine["list"].append(2)
            record = store.read("a")
            assert record is not None
            record.metadata["list"].append(3)
            again = store.read("a")
            assert again is not None
            assert again.metadata == {"list": [1]}

    async def test_metadata_that_is_not_json_is_refused_and_nothing_is_written(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            with pytest.raises(UsageError, match="JSON"):
                await write(store, "a", numbered(1, 1), metadata={"bad": object()})
            with pytest.raises(UsageError, match="JSON"):
                store.replace("a", numbered(1, 1), metadata={"bad": object()})
            assert store.read("a") is None

    async def test_a_negative_count_is_refused(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            for refused in (
                lambda: store.read("a", last=-1),
                lambda: store.read("a", covered=-1),
                lambda: store.list_sessions(limit=-1),
            ):
                with pytest.raises(UsageError, match="negative"):
                    refused()
            with pytest.raises(UsageError, match="negative"):
                await store.acquire_lease("a", last=-1)
            with pytest.raises(UsageError, match="negative"):
                await store.acquire_lease("a", covered=-1)
            await write(store, "a", numbered(1, 1))  # the refused lease holds nothing

    async def test_any_string_is_a_key_and_no_two_are_the_same(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            for number, key in enumerate(ODD_KEYS):
                await write(store, key, numbered(number, number))
            assert sorted(keys_of(store)) == sorted(ODD_KEYS)
            for number, key in enumerate(ODD_KEYS):
                record = store.read(key)
                assert record is not None
                assert record.messages == (UserMessage(f"message {number}"),)
                assert store.delete(key)
            assert store.list_sessions() == ()

    async def test_every_write_moves_the_position_and_reading_does_not(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            seen = [
                await write(store, "a", numbered(1, 1)),
                await write(store, "a", [], metadata={"title": "x"}),
                await write(store, "a", [], compaction=Compaction(1, "one")),
            ]
            assert len({position.version for position in seen}) == 3
            assert [position.version for position in seen] == sorted(p.version for p in seen)
            assert {position.sequence for position in seen} == {1}
            record = store.read("a")
            assert record is not None
            assert record.position == seen[-1]

    async def test_a_copy_that_is_still_good_is_not_read_again(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            position = await write(store, "a", numbered(1, 3))
            async with open_lease(store, "a", unless_at=position) as leased:
                assert leased.position == position
                assert leased.record is None
            moved = await write(store, "a", [], metadata={"title": "x"})
            async with open_lease(store, "a", last=1, unless_at=position) as leased:
                assert leased.position == moved
                assert leased.record is not None
                assert leased.record.first_sequence == 3
            store.delete("a")
            async with open_lease(store, "a", unless_at=moved) as leased:
                assert leased.position != moved
                assert leased.record is None

    # --- messages that go along with a lease

    async def test_messages_go_along_with_a_lease_where_the_session_stands_as_expected(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            position = await write(store, "a", numbered(1, 2), metadata={"title": "x"})
            async with open_lease(
                store, "a", unless_at=position, messages=numbered(3, 4)
            ) as leased:
                assert leased.appended
                assert leased.record is None
                assert leased.position == position_of(store, "a")
                assert leased.position.sequence == 4
                assert await store.append(leased.lease, numbered(5, 5)) == position_of(store, "a")
            record = store.read("a")
            assert record is not None
            assert list(record.messages) == numbered(1, 5)
            assert record.metadata == {"title": "x"}

    async def test_messages_do_not_go_along_where_anything_came_between(
        self, open_store: OpenStore
    ) -> None:
        async def goes_along(unless_at: Position | None) -> bool:
            async with open_lease(
                store, "a", unless_at=unless_at, messages=numbered(9, 9)
            ) as leased:
                assert leased.position == (position_of(store, "a") or leased.position)
                return leased.appended

        async with open_store() as store:
            first = await write(store, "a", numbered(1, 1))
            assert not await goes_along(None)
            second = await write(store, "a", numbered(2, 2))
            assert not await goes_along(first)
            await write(store, "a", [], slips={"turn": b"left"})
            assert position_of(store, "a") == second
            assert not await goes_along(second)
            await write(store, "a", [], slips={"turn": None})
            store.clear("a")
            assert not await goes_along(second)
            store.delete("a")
            assert not await goes_along(second)
            assert store.read("a") is None

    async def test_messages_go_along_with_a_lease_of_a_session_that_does_not_exist(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            for _ in range(2):  # also if there was one before
                async with open_lease(store, "a", messages=numbered(1, 2)) as leased:
                    assert leased.appended
                    assert leased.record is None
                    assert leased.position == position_of(store, "a")
                    assert leased.position.sequence == 2
                    assert leased.lease.epoch == leased.position.epoch
                    end = await store.append(leased.lease, numbered(3, 3), metadata={"title": "x"})
                    assert end == position_of(store, "a")
                record = store.read("a")
                assert record is not None
                assert list(record.messages) == numbered(1, 3)
                assert [info.preview for info in store.list_sessions()] == ["message 1"]
                assert store.delete("a")
            async with open_lease(store, "a") as leased:
                assert not leased.appended
            assert store.read("a") is None

    async def test_messages_for_a_session_that_was_to_be_new_wait_for_who_makes_it(
        self, open_store: OpenStore
    ) -> None:
        appended: list[bool] = []

        async def takes_it_for_new() -> None:
            async with open_lease(store, "a", messages=numbered(9, 9)) as leased:
                assert leased.record is not None
                assert list(leased.record.messages) == numbered(1, 1)
                appended.append(leased.appended)

        async with open_store() as store, trio.open_nursery() as nursery:
            async with open_lease(store, "a") as leased:
                nursery.start_soon(takes_it_for_new)
                await trio.testing.wait_all_tasks_blocked()
                await store.append(leased.lease, numbered(1, 1))
        assert appended == [False]

    async def test_messages_that_wait_for_a_lease_in_vain_are_not_written(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            position = await write(store, "a", numbered(1, 1))
            async with open_lease(store, "a"), trio.open_nursery() as nursery:
                nursery.start_soon(
                    partial(store.acquire_lease, "a", unless_at=position, messages=numbered(2, 2))
                )
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert position_of(store, "a") == position
            returned = False
            with trio.move_on_after(0):
                async with open_lease(store, "a", unless_at=position, messages=numbered(2, 2)):
                    returned = True
            assert (position_of(store, "a") != position) is returned

    # --- listing

    async def test_the_list_is_newest_first_and_says_what_each_session_is(
        self, open_store: OpenStore
    ) -> None:
        before = datetime.now(UTC)
        async with open_store() as store:
            await write(
                store, "old", [AssistantMessage("hi"), UserMessage("  first\n words " + "x" * 200)]
            )
            await write(store, "new", numbered(1, 3), metadata={"title": "New"})
            await write(store, "old", [UserMessage("later words")])
            old, new = store.list_sessions()
            assert (old.key, old.title, old.message_count) == ("old", "", 3)
            assert old.preview.startswith("first words xxx")
            assert len(old.preview) == 120
            assert (new.key, new.title, new.message_count) == ("new", "New", 3)
            assert (
                before
                <= datetime.fromisoformat(old.created_at)
                <= datetime.fromisoformat(old.updated_at)
            )
            assert old.created_at < old.updated_at
            record = store.read("old", last=0)
            assert record is not None
            assert old.created_at == record.created_at.isoformat()
            assert [info.key for info in store.list_sessions(limit=1)] == ["old"]
            assert store.list_sessions(limit=0) == ()

    # --- clear, delete, replace: they win

    async def test_clearing_empties_a_session_and_keeps_its_metadata(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            await write(
                store, "a", numbered(1, 3), metadata={"title": "x"}, compaction=Compaction(2, "two")
            )
            before = store.read("a")
            assert before is not None
            cleared = store.clear("a")
            assert cleared is not None
            assert cleared == store.read("a")
            assert (cleared.messages, cleared.compaction, cleared.metadata) == (
                (),
                None,
                {"title": "x"},
            )
            assert (cleared.position.sequence, cleared.created_at) == (0, before.created_at)
            assert cleared.position.epoch != before.position.epoch
            (info,) = store.list_sessions()
            assert (info.preview, info.message_count) == ("", 0)
            position = await write(store, "a", numbered(9, 9))
            assert (position.sequence, position.epoch) == (1, cleared.position.epoch)

    async def test_clearing_or_deleting_what_is_not_there_says_so(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            assert store.clear("nobody") is None
            assert store.delete("nobody") is False
            assert store.list_sessions() == ()

    async def test_replacing_leaves_exactly_what_was_given(self, open_store: OpenStore) -> None:
        born = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
        async with open_store() as store:
            first = await write(store, "a", numbered(1, 3), metadata={"old": 1})
            for key in ["a", "fresh"]:
                position = store.replace(key, numbered(7, 8), metadata={"new": 2}, created_at=born)
                record = store.read(key)
                assert record is not None
                assert list(record.messages) == numbered(7, 8)
                assert (record.metadata, record.created_at) == ({"new": 2}, born)
                assert record.position == position
                assert position.epoch != first.epoch

    async def test_a_new_session_does_not_take_the_place_of_another(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            store.replace("a", numbered(1, 1), only_new=True)
            with pytest.raises(SessionExists) as caught:
                store.replace("a", numbered(2, 2), only_new=True)
            assert caught.value.key == "a"
            record = store.read("a")
            assert record is not None
            assert list(record.messages) == numbered(1, 1)

    async def test_a_summary_can_be_put_back_with_its_messages(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            store.replace("a", numbered(1, 5), compaction=Compaction(3, "three"))
            record = store.read("a", covered=0)
            assert record is not None
            assert (record.first_sequence, record.compaction) == (4, Compaction(3, "three"))
            with pytest.raises(UsageError, match="do not exist"):
                store.replace("a", numbered(1, 2), compaction=Compaction(3, "three"))
            assert store.read("a", covered=0) == record

    async def test_a_session_that_nobody_owns_can_be_extended_without_a_lease(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            assert store.extend("a", numbered(1, 2), metadata={"title": "x"})
            assert store.extend("a", numbered(3, 3), metadata={"title": None})
            record = store.read("a")
            assert record is not None
            assert (list(record.messages), record.metadata) == (numbered(1, 3), {})
            async with open_lease(store, "a", unless_at=record.position) as leased:
                assert leased.record is None
                assert not store.extend("a", numbered(9, 9))
                await store.append(leased.lease, numbered(4, 4))
            assert store.extend("a", numbered(5, 5))
            record = store.read("a")
            assert record is not None
            assert list(record.messages) == numbered(1, 5)
            with pytest.raises(UsageError, match="JSON"):
                store.extend("b", numbered(1, 1), metadata={"bad": object()})
            assert store.read("b") is None
            assert store.extend("b", [])
            assert store.read("b") is None

    async def test_any_thread_may_look_and_administer_while_turns_go_on(
        self, open_store: OpenStore
    ) -> None:
        """Whatever the order, each session ends as one of the whole things that were done to it."""
        async with open_store() as store:

            def administer(number: int) -> None:
                key = f"session {number % 3}"
                for round_ in range(20):
                    match (number + round_) % 5:
                        case 0:
                            store.clear(key)
                        case 1:
                            store.replace(key, numbered(1, 2))
                        case 2:
                            store.delete(key)
                        case 3:
                            store.extend(key, numbered(1, 2))
                        case _:
                            store.flush()
                    record = store.read(key)
                    assert record is None or len(record.messages) % 2 == 0
                    assert all(info.message_count % 2 == 0 for info in store.list_sessions())

            async def take_turns(number: int) -> None:
                for _ in range(20):
                    async with open_lease(store, f"session {number % 3}", last=0) as leased:
                        try:
                            await store.append(leased.lease, numbered(1, 2))
                        except SessionGone:
                            pass  # somebody cleared it

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for number in range(6):
                        nursery.start_soon(trio.to_thread.run_sync, administer, number)
                        nursery.start_soon(take_turns, number)
            for number in range(3):
                async with open_lease(store, f"session {number}", last=0) as leased:
                    await store.append(leased.lease, numbered(1, 2))

    def test_a_store_moves_from_one_trio_run_to_the_next(self, open_store: OpenStore) -> None:
        opened = open_store()

        async def first() -> SessionStore:
            store = await opened.__aenter__()
            await write(store, "a", numbered(1, 1))
            return store

        async def second(store: SessionStore) -> None:
            with trio.fail_after(30):
                await write(store, "a", numbered(2, 2))
                await store.aclose()

        store = trio.run(first)
        assert store.extend("a", [])
        trio.run(second, store)
        record = store.read("a")
        assert record is not None
        assert list(record.messages) == numbered(1, 2)

    @pytest.mark.parametrize("fate", ["clear", "delete", "replace"])
    @pytest.mark.parametrize("written", [0, 2])
    async def test_a_turn_cannot_write_to_a_session_that_was_taken_from_under_it(
        self, open_store: OpenStore, fate: str, written: int
    ) -> None:
        async with open_store() as store:
            async with open_lease(store, "a") as leased:
                await store.append(leased.lease, numbered(1, written))
                match fate:
                    case "clear":
                        store.clear("a")
                    case "delete":
                        store.delete("a")
                    case "replace":
                        store.replace("a", numbered(7, 7))
                before = store.read("a")
                for _ in range(2):
                    with pytest.raises(SessionGone) as caught:
                        await store.append(leased.lease, numbered(8, 9), metadata={"late": True})
                    assert caught.value.key == "a"
                assert store.read("a") == before
            # The next turn is not concerned.
            await write(store, "a", numbered(5, 5))
            record = store.read("a")
            assert record is not None
            assert record.messages[-1] == UserMessage("message 5")
            assert "late" not in record.metadata

    async def test_an_epoch_is_never_used_twice(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            epochs = []
            for _ in range(3):
                epochs.append((await write(store, "a", numbered(1, 1))).epoch)
                store.clear("a")
                epochs.append((await write(store, "a", numbered(1, 1))).epoch)
                store.delete("a")
            assert len(set(epochs)) == 6

    # --- leases

    async def test_a_lease_that_was_given_back_writes_nothing_more(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            first = (await store.acquire_lease("a")).lease
            await store.append(first, numbered(1, 1), release=True)
            with pytest.raises(SessionFenced) as caught:
                await store.append(first, numbered(2, 2))
            assert caught.value.key == "a"
            second = (await store.acquire_lease("a")).lease
            assert second.token > first.token
            with pytest.raises(SessionFenced):
                await store.append(first, numbered(2, 2))
            await store.release_lease(first)  # of no effect on the one who has it now
            await store.append(second, numbered(2, 2))
            await store.release_lease(second)
            await store.release_lease(second)
            record = store.read("a")
            assert record is not None
            assert list(record.messages) == numbered(1, 2)

    async def test_turns_of_one_session_wait_for_each_other_in_order_of_arrival(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            inside = 0

            async def turn(
                number: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
            ) -> None:
                nonlocal inside
                task_status.started()
                async with open_lease(store, "a", last=0) as leased:
                    inside += 1
                    assert inside == 1
                    assert leased.position.sequence == 2 * number
                    await store.append(leased.lease, numbered(number, number))
                    await trio.lowlevel.checkpoint()
                    inside -= 1
                    await store.append(
                        leased.lease, numbered(number, number), release=number % 2 == 0
                    )

            async with trio.open_nursery() as nursery, open_lease(store, "a"):
                for number in range(5):
                    await nursery.start(turn, number)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                assert store.read("a") is None

    async def test_sessions_do_not_wait_for_each_other_and_readers_wait_for_nobody(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            with trio.fail_after(30):
                async with open_lease(store, "a") as leased:
                    await store.append(leased.lease, numbered(1, 1))
                    await write(store, "b", numbered(1, 1))
                    record = store.read("a")
                    assert record is not None
                    assert record.position.sequence == 1
                    assert len(store.list_sessions()) == 2

    async def test_a_turn_that_gives_up_waiting_leaves_the_queue(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            order: list[str] = []

            async def turn(name: str) -> None:
                async with open_lease(store, "a"):
                    order.append(name)

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery, open_lease(store, "a"):
                    with trio.CancelScope() as impatient:
                        async with trio.open_nursery() as waiting:
                            waiting.start_soon(turn, "impatient")
                            await trio.testing.wait_all_tasks_blocked(0.01)
                            nursery.start_soon(turn, "patient")
                            await trio.testing.wait_all_tasks_blocked(0.01)
                            impatient.cancel()
                    assert impatient.cancelled_caught
            assert order == ["patient"]

    async def test_a_cancelled_turn_gives_its_lease_back(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            taken: list[Leased] = []
            with trio.CancelScope() as scope:
                async with open_lease(store, "a") as leased:
                    taken.append(leased)
                    scope.cancel()
                    await trio.sleep_forever()
            with trio.fail_after(30):
                await write(store, "a", numbered(1, 1))
            with pytest.raises(SessionFenced):
                await store.append(taken[0].lease, numbered(2, 2))

    async def test_a_write_that_is_cancelled_before_it_begins_writes_nothing(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store, open_lease(store, "a") as leased:
            with trio.CancelScope() as scope:
                scope.cancel()
                await store.append(leased.lease, numbered(1, 1))
            assert scope.cancelled_caught
            assert store.read("a") is None
            await store.append(leased.lease, numbered(1, 1))

    # --- the end

    # --- slips

    async def test_a_slip_lies_beside_its_session_and_is_written_with_the_lease(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            async with open_lease(store, "a") as leased:
                assert leased.slips == {}
                with pytest.raises(UsageError, match="slip"):
                    await store.append(leased.lease, slips={"turn": b"1"})
                assert store.read("a") is None
                first = await store.append(
                    leased.lease, numbered(1, 1), slips={"turn": b"\x00one", "other": b"x"}
                )
                assert await store.append(leased.lease, slips={"turn": b"two"}) == first
            await write(store, "b", numbered(1, 1), slips={"turn": b"b"})
            assert store.list_slips("turn") == (("a", b"two"), ("b", b"b"))
            assert store.list_slips("turn", key="b") == (("b", b"b"),)
            assert store.list_slips("turn", key="nobody") == store.list_slips("none") == ()
            async with open_lease(store, "a", unless_at=first) as leased:
                assert leased.record is None
                assert leased.slips == {"turn": b"two", "other": b"x"}
                await store.append(
                    leased.lease, numbered(2, 2), slips={"turn": None, "never": None}
                )
            async with open_lease(store, "a") as leased:
                assert leased.record is not None
                assert leased.slips == {"other": b"x"}
        async with open_store() as store:
            async with open_lease(store, "b") as leased:
                if leased.record is not None:  # the store outlives its object
                    assert leased.slips == {"turn": b"b"}

    async def test_a_session_is_replaced_with_its_slips(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            await write(store, "a", numbered(1, 1), slips={"turn": b"x", "other": b"y"})
            store.replace("a", numbered(1, 2), slips={"turn": b"new"})
            async with open_lease(store, "a") as leased:
                assert leased.slips == {"turn": b"new"}

    async def test_a_slip_is_swapped_once_for_what_was_seen(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            await write(store, "a", numbered(1, 1), slips={"turn": b"seen"})
            assert not store.swap_slip("a", "turn", b"something else", b"new")
            assert not store.swap_slip("a", "other", b"seen", b"new")
            assert not store.swap_slip("nobody", "turn", b"seen", b"new")
            assert store.swap_slip("a", "turn", b"seen", b"new")
            assert not store.swap_slip("a", "turn", b"seen", b"newer")
            assert store.list_slips("turn") == (("a", b"new"),)
            async with open_lease(store, "a") as leased:
                assert leased.slips == {"turn": b"new"}
                assert store.swap_slip("a", "turn", b"new", None)  # under the eyes of the owner
                await store.append(leased.lease, slips={"turn": b"the owner's"})
            assert store.list_slips("turn") == (("a", b"the owner's"),)

    async def test_slips_go_with_their_session_and_cannot_be_written_from_outside(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            for key in ("cleared", "deleted", "replaced"):
                await write(store, key, numbered(1, 1), slips={"turn": b"x"})
            async with open_lease(store, "cleared") as leased:
                store.clear("cleared")
                with pytest.raises(SessionGone):
                    await store.append(leased.lease, slips={"turn": b"late"})
            with pytest.raises(SessionFenced):
                await store.append(leased.lease, slips={"turn": b"later"})
            store.delete("deleted")
            store.replace("replaced", numbered(1, 3))
            assert store.list_slips("turn") == ()
            await write(store, "deleted", numbered(1, 1))
            assert store.list_slips("turn") == ()

    async def test_flushing_counts_the_sessions_that_were_written(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            assert store.flush() == 0
            for key in ["a", "b", "a", "c"]:
                await write(store, key, numbered(1, 1))
            store.delete("c")
            store.read("b")
            assert store.flush() == 2
            assert store.flush() == 0

    async def test_a_closed_store_can_be_read_but_not_written(self, open_store: OpenStore) -> None:
        async with open_store() as store:
            lease = (await store.acquire_lease("a")).lease
            await store.append(lease, numbered(1, 1))
            await store.aclose()
            store.close()
            await store.aclose()
            for refused in (
                lambda: store.replace("a", []),
                lambda: store.extend("b", numbered(1, 1)),
                lambda: store.clear("a"),
                lambda: store.delete("a"),
            ):
                with pytest.raises(StoreError, match="closed"):
                    refused()
            with pytest.raises(StoreError, match="closed"):
                await store.append(lease, numbered(2, 2))
            with pytest.raises(StoreError, match="closed"):
                await store.acquire_lease("b")
            await store.release_lease(lease)
            record = store.read("a")
            assert record is not None
            assert list(record.messages) == numbered(1, 1)
            assert keys_of(store) == ["a"]

    async def test_whoever_waits_for_a_session_when_the_store_closes_is_told(
        self, open_store: OpenStore
    ) -> None:
        async with open_store() as store:
            told: list[str] = []

            async def turn() -> None:
                try:
                    await store.acquire_lease("a")
                except StoreError as error:
                    told.append(str(error))

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    lease = (await store.acquire_lease("a")).lease
                    nursery.start_soon(turn)
                    nursery.start_soon(turn)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    await store.aclose()
                    await store.release_lease(lease)
            assert len(told) == 2

    # --- all of it together

    def test_any_sequence_of_operations_leaves_what_a_plain_dict_would_have(
        self, open_store: OpenStore
    ) -> None:
        operation = st.tuples(
            st.sampled_from(["append", "append", "stale append", "clear", "delete", "replace"]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 3),
        )

        async def compare(operations: list[tuple[str, str, int]]) -> None:
            expected: dict[str, list[Message]] = {}
            async with open_store() as store:
                for key in keys_of(store):  # storage that outlives one example
                    store.delete(key)
                for step, (what, key, size) in enumerate(operations):
                    messages = numbered(step * 10, step * 10 + size - 1)
                    match what:
                        case "append":
                            await write(store, key, messages)
                            if messages:
                                expected[key] = expected.get(key, []) + messages
                        case "stale append":
                            lease = (await store.acquire_lease(key)).lease
                            await store.release_lease(lease)
                            with pytest.raises(SessionFenced):
                                await store.append(lease, messages)
                            continue
                        case "clear":
                            assert (store.clear(key) is None) == (key not in expected)
                            if key in expected:
                                expected[key] = []
                        case "delete":
                            assert store.delete(key) == (key in expected)
                            expected.pop(key, None)
                        case "replace":
                            store.replace(key, messages)
                            expected[key] = list(messages)
                    for name, history in expected.items():
                        record = store.read(name)
                        assert record is not None
                        assert list(record.messages) == history
                        assert record.position.sequence == len(history)
                    assert set(keys_of(store)) == expected.keys()

        @given(st.lists(operation, max_size=10))
        def compared(operations: list[tuple[str, str, int]]) -> None:
            trio.run(compare, operations)

        compared()
