"""Whatever a store keeps its messages in, the same words find the same messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.errors import InvalidArgument
from nanobot.messages import AssistantMessage, Message, TextPart, UserMessage
from nanobot.sessions import InMemoryStore, SearchableStore, open_lease
from nanobot.sessions._sqlite import SqliteStore


@pytest.fixture(params=["memory", "indexed", "not indexed yet", "without FTS5", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SearchableStore]:
    """Each way in which messages are found. What waits for the index is found one by one, and the rest by the index."""
    if request.param == "memory":
        yield InMemoryStore()
        return
    if request.param == "postgres":
        with postgres_store() as store:
            yield store
        return
    sqlite = SqliteStore(
        tmp_path / "sessions.sqlite3",
        durability="fast",
        full_text=request.param != "without FTS5",
    )
    yield sqlite
    sqlite.close()


@contextmanager
def postgres_store() -> Iterator[SearchableStore]:
    from nanobot.sessions._postgres import PostgresStore
    from tests.sessions.postgres_server import new_schema

    with new_schema() as url:
        store = PostgresStore(url, synchronous=False)
        yield store
        store.close()


def fill(store: SearchableStore, **sessions: list[Message]) -> None:
    for key, messages in sessions.items():
        store.replace(key, messages)


def indexed(store: SearchableStore) -> None:
    """See that nothing waits for the index any more; without effect where there is none."""
    if isinstance(store, SqliteStore):
        indexer = store._books.indexer
        while indexer.enabled and store._writer.started and indexer.due_in_s() is not None:
            time.sleep(0.01)


async def test_what_was_stored_with_a_lease_is_found(store: SearchableStore) -> None:
    store.replace("a", [UserMessage("one")])
    record = store.read("a")
    assert record is not None
    async with open_lease(
        store, "a", unless_at=record.position, messages=[UserMessage("two")]
    ) as leased:
        assert leased.appended
    indexed(store)
    assert [(hit.key, hit.sequence) for hit in store.search("two")] == [("a", 2)]


@pytest.mark.parametrize("wait", [False, True])
def test_all_the_words_must_be_there_and_case_and_accents_do_not_count(
    store: SearchableStore, wait: bool
) -> None:
    fill(
        store,
        a=[UserMessage("The Café opens at nine."), AssistantMessage("Noted: nine o'clock.")],
        b=[UserMessage((TextPart("A picture of the cafe"),))],
        c=[UserMessage("東京の天気は?"), AssistantMessage("晴れです。")],
    )
    if wait:
        indexed(store)

    def found(text: str) -> set[tuple[str, int]]:
        return {(hit.key, hit.sequence) for hit in store.search(text)}

    assert found("cafe") == found("CAFÉ") == {("a", 1), ("b", 1)}
    assert found("nine") == {("a", 1), ("a", 2)}
    assert found("cafe nine") == {("a", 1)}
    assert found("pict") == {("b", 1)}  # the last word may be unfinished
    assert found("pict cafe") == set()  # another one not
    assert found("天気") == {("c", 1)}
    assert found("") == found("?!") == set()
    assert found('"cafe" OR AND NOT (') == set()  # no operators
    assert len(store.search("cafe", 1)) == 1
    assert store.search("cafe", 0) == ()
    with pytest.raises(InvalidArgument):
        store.search("cafe", -1)
    (hit,) = store.search("晴れ")
    assert (hit.key, hit.role, hit.excerpt) == ("c", "assistant", "晴れです。")
    assert hit.to_dict()["sequence"] == 2


@pytest.mark.parametrize("wait", [False, True])
def test_what_is_gone_is_not_found(store: SearchableStore, wait: bool) -> None:
    fill(store, a=[UserMessage("a needle")], b=[UserMessage("a needle")], c=[UserMessage("needle")])
    if wait:
        indexed(store)
    store.delete("a")
    store.clear("b")
    store.replace("c", [UserMessage("a pin")])
    assert store.search("needle") == ()
    assert [hit.key for hit in store.search("pin")] == ["c"]
    assert store.extend("b", [UserMessage("needle again")])
    assert [(hit.key, hit.sequence) for hit in store.search("needle")] == [("b", 1)]


def test_a_long_text_is_shown_around_the_word(store: SearchableStore) -> None:
    fill(store, a=[UserMessage("hay " * 500 + "needle " + "hay " * 500)])
    (hit,) = store.search("needle")
    assert "needle" in hit.excerpt
    assert len(hit.excerpt) < 300
    assert hit.excerpt.startswith("…")
    assert hit.excerpt.endswith("…")


WORDS = st.sampled_from(
    ["red", "Red", "redder", "blue", "bl", "é", "e", "赤", "赤い", "x-ray", "3"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)


@settings(max_examples=15)  # each waits until the writer has nothing else to do
@given(st.lists(TEXTS, min_size=1, max_size=6), TEXTS)
def test_the_index_and_reading_everything_agree(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], query: str
) -> None:
    plain = InMemoryStore()
    sqlite = SqliteStore(tmp_path_factory.mktemp("s") / "x", durability="fast")
    try:
        for store in (plain, sqlite):
            store.replace("a", [UserMessage(text) for text in texts])
        expected = {hit.sequence for hit in plain.search(query)}
        assert {hit.sequence for hit in sqlite.search(query)} == expected
        indexed(sqlite)
        assert {hit.sequence for hit in sqlite.search(query)} == expected
    finally:
        sqlite.close()


def test_the_index_of_postgres_and_reading_everything_agree() -> None:
    with postgres_store() as indexed_store:

        @settings(max_examples=15)
        @given(st.lists(TEXTS, min_size=1, max_size=6), TEXTS)
        def agree(texts: list[str], query: str) -> None:
            plain = InMemoryStore()
            for store in (plain, indexed_store):
                store.replace("a", [UserMessage(text) for text in texts])
            expected = {hit.sequence for hit in plain.search(query)}
            assert {hit.sequence for hit in indexed_store.search(query)} == expected

        agree()
