"""The URL of a service: taken apart as httpx takes it apart, without an import of httpx."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers._address import Address, address_from_url

HOSTS = st.one_of(
    st.from_regex(
        r"[a-zA-Z0-9]([a-zA-Z0-9_-]{0,5}[a-zA-Z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True
    ),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.sampled_from(["bücher.example", "EXAMPLE.com", "例え.jp"]),
)
PORTS = st.one_of(st.just(""), st.just(":"), st.integers(1, 65535).map(lambda port: f":{port}"))
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12)
PATHS = st.lists(TEXT.filter(lambda text: not set(text) & set("?#/\\") and text.isprintable()))


@given(st.sampled_from(["http", "https", "HTTP"]), HOSTS, PORTS, PATHS, st.booleans())
def test_it_is_what_httpx_makes_of_it(
    scheme: str, host: str, port: str, path: list[str], fragment: bool
) -> None:
    path = [part for part in path if part not in (".", "..")]  # left to the server
    url = f"{scheme}://{host}{port}/{'/'.join(path)}{'#x' if fragment else ''}"
    ours, theirs = address_from_url(url), httpx.URL(url)
    assert ours.origin == (
        theirs.raw_scheme,
        theirs.raw_host,
        theirs.port or {"http": 80, "https": 443}[theirs.scheme],
    )
    assert ours.netloc.encode() == theirs.netloc
    assert httpx.URL(str(ours)).path == theirs.path


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://x.example", Address("https", "x.example")),
        ("http://x:80/v1/", Address("http", "x", None, "/v1/")),
        ("http://x:8080?a=b c&d=%20#e", Address("http", "x", 8080, "/", "a=b%20c&d=%20")),
        ("http://[::1]:8080/100%/ä", Address("http", "::1", 8080, "/100%25/%C3%A4")),
        ("http://me:secret@x/", Address("http", "x", None, "/", "", "me:secret")),
    ],
)
def test_it_is_taken_apart(url: str, parts: Address) -> None:
    assert address_from_url(url) == parts
    assert "secret" not in f"{parts} {parts!r}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must be an http"),
        ("x.example", "must be an http"),
        ("ftp://canary", "must be an http"),
        ("http://", "must be an http"),
        ("http://canary:99999", "no usable host and port"),
        ("http://canary:0", "no usable host and port"),
        ("http://u:can/ary@x", "no usable host and port"),
        ("http://[canary", "no usable host and port"),
        ("http://can ary/", "no usable host and port"),
        ("http://can%20ary/", "no usable host and port"),
        ("http://canary\u2488com/", "no usable host and port"),
        ("http://can\nary/", "line break"),
    ],
)
def test_what_is_no_address_is_refused_without_being_quoted(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        address_from_url(url)
    assert "can" not in str(refused.value).replace("cannot", "").replace("scan", "")


def test_a_parameter_that_is_there_is_given_anew() -> None:
    address = address_from_url("http://x/?v=1&key=old&k%65y=older&flag")
    assert address.with_query({}) == address
    assert address.with_query({"key": "a b&c"}).query == "v=1&flag&key=a+b%26c"
