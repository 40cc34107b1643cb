"""How each search service is asked, and how its answer is read. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote_plus

import msgspec
from msgspec import Struct, field

__all__ = ["SERVICES", "Found", "SearchRequest", "SearchService"]


class Found(Struct, frozen=True):
    """One result: a title, where it is, and what is said about it."""

    title: str = ""
    url: str = ""
    text: str = ""


class SearchRequest(Struct, frozen=True):
    """One HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class SearchService(Struct, frozen=True):
    """One service.

    Attributes:
      base_url: Where it is, unless the configuration says otherwise; "" if it has to.
      key_variable: The environment variable that holds its key, unless the configuration does; "" if it needs none.
      request: Makes a request from the base URL, the key, the query, and the number of results.
      read: Reads its answer; raises `msgspec.DecodeError` or `msgspec.ValidationError`.
    """

    base_url: str
    key_variable: str
    request: Callable[[str, str, str, int], SearchRequest]
    read: Callable[[bytes], Sequence[Found]]


class _BraveResult(Struct):
    title: str = ""
    url: str = ""
    description: str | None = ""


class _BraveWeb(Struct):
    results: list[_BraveResult] = field(default_factory=list)


class _BraveAnswer(Struct):
    web: _BraveWeb | None = None  # missing when nothing was found


class _Result(Struct):
    title: str | None = ""
    url: str = ""
    content: str | None = ""


class _Answer(Struct):
    results: list[_Result] = field(default_factory=list)


_BRAVE_DECODER: msgspec.json.Decoder[_BraveAnswer] = msgspec.json.Decoder(_BraveAnswer)
_DECODER: msgspec.json.Decoder[_Answer] = msgspec.json.Decoder(_Answer)


def _ask_brave(base_url: str, key: str, query: str, count: int) -> SearchRequest:
    # `Source:` https://api-dashboard.search.brave.com/app/documentation/web-search/get-started
    url = f"{base_url}/res/v1/web/search?q={quote_plus(query)}&count={count}"
    return SearchRequest("GET", url, {"Accept": "application/json", "X-Subscription-Token": key})


def _read_brave(body: bytes) -> Sequence[Found]:
    web = _BRAVE_DECODER.decode(body).web
    return [
        Found(each.title, each.url, each.description or "") for each in (web.results if web else ())
    ]


def _ask_tavily(base_url: str, key: str, query: str, count: int) -> SearchRequest:
    # `Source:` https://docs.tavily.com/documentation/api-reference/endpoint/search
    body: dict[str, Any] = {"query": query, "max_results": count}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return SearchRequest("POST", f"{base_url}/search", headers, msgspec.json.encode(body))


def _ask_searxng(base_url: str, key: str, query: str, count: int) -> SearchRequest:
    # `Source:` https://docs.searxng.org/dev/search_api.html; JSON has to be switched on in its settings
    url = f"{base_url.removesuffix('/search')}/search?q={quote_plus(query)}&format=json"
    headers = {"Accept": "application/json"}
    return SearchRequest("GET", url, headers | ({"Authorization": f"Bearer {key}"} if key else {}))


def _read(body: bytes) -> Sequence[Found]:
    return [
        Found(each.title or "", each.url, each.content or "")
        for each in _DECODER.decode(body).results
    ]


SERVICES: Final[Mapping[str, SearchService]] = {
    "brave": SearchService(
        "https://api.search.brave.com", "BRAVE_API_KEY", _ask_brave, _read_brave
    ),
    "tavily": SearchService("https://api.tavily.com", "TAVILY_API_KEY", _ask_tavily, _read),
    "searxng": SearchService("", "", _ask_searxng, _read),
}
