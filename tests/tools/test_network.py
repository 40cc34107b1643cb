"""The way into the web: where it leads, where it does not, and that it is never flooded."""

from __future__ import annotations

import gzip
import os
import random
import ssl
import subprocess
import threading
import zlib
from pathlib import Path

import pytest
import trio

from nanobot.errors import ToolError
from nanobot.tools._inflate import Inflater
from nanobot.tools._network import Fetched, Network, resolve
from nanobot.tools._threads import TOOL_THREADS
from tests.tools.web_server import (
    LOOPBACK,
    Request,
    loopback_network,
    names,
    redirect,
    response,
    web_server,
)

MB = 1024 * 1024


async def fetched(network: Network, url: str, most_bytes: int = MB) -> Fetched:
    with trio.fail_after(30):
        return await network.fetch(url, most_bytes=most_bytes)


async def refusal(network: Network, url: str) -> str:
    with pytest.raises(ToolError) as caught:
        await fetched(network, url)
    return str(caught.value)


async def test_gets_a_page_and_says_who_asks() -> None:
    async with web_server(lambda _: response("hëllo", kind="text/html; charset=utf-8")) as server:
        network = loopback_network(user_agent="me/1")
        found = await fetched(network, server.url("/a?b=c#d"))
    assert (found.status, found.text, found.media_type) == (200, "hëllo", "text/html")
    assert not found.is_cut
    (request,) = server.requests
    assert (request.method, request.target) == ("GET", "/a?b=c")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["user-agent"] == "me/1"


async def test_the_encoding_that_the_server_names_is_used() -> None:
    async with web_server(
        lambda _: response("é".encode("latin-1"), kind='text/plain; charset="iso-8859-1"')
    ) as server:
        assert (await fetched(loopback_network(), server.url())).text == "é"
    async with web_server(
        lambda r: response("é", kind=f"text/plain; charset={r.target[1:]}")
    ) as server:
        for name in ("nonsense", "hex", "idna", "punycode", "undefined", ""):
            assert (await fetched(loopback_network(), server.url(f"/{name}"))).text == "é"


@pytest.mark.parametrize(
    ("head", "kind", "text"),
    [
        ("<meta charset=iso-8859-1>", "text/html", "caf\u00e9 \u2019"),
        (
            '<META http-equiv="Content-Type" content="text/html; charset=windows-1252">',
            "application/xhtml+xml",
            "caf\u00e9 \u2019",
        ),
        ("<meta charset=iso-8859-1>", "text/html; charset=utf-8", "caf\ufffd \ufffd"),
        ("<meta charset=iso-8859-1>", "text/plain", "caf\ufffd \ufffd"),
        ("<meta charset=utf-16>", "text/html", "caf\ufffd \ufffd"),
        (" " * 1024 + "<meta charset=iso-8859-1>", "text/html", "caf\ufffd \ufffd"),
    ],
    ids=range(6),
)
async def test_a_page_says_itself_how_it_is_encoded_if_the_server_does_not(
    head: str, kind: str, text: str
) -> None:
    body = head.encode() + "caf\u00e9 \u2019".encode("cp1252")
    async with web_server(lambda _: response(body, kind=kind)) as server:
        assert (await fetched(loopback_network(), server.url())).text == head + text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://0x7f.1:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://0:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::1]:{port}/",
        "http://[::]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
        "http://[64:ff9b::7f00:1]:{port}/",
        "http://[2002:7f00:1::]:{port}/",
        "http://[fe80::1%25lo]:{port}/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "http://127.0.0.1.:{port}/",
        "HTTP://127.0.0.1:{port}/",
        "http:127.0.0.1:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://example.org@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@example.org/",
        "file:///etc/passwd",
        "file://127.0.0.1/etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "gopher://127.0.0.1:{port}/",
        "javascript:alert(1)",
        "data:text/html,x",
        "//127.0.0.1:{port}/",
        "/etc/passwd",
        "http://",
        "http://[::1",
        "http://a:b:c/",
        "http://x:99999999/",
        "http://\0/",
        "http://x\r\nHost: y/",
        "",
    ],
)
async def test_no_spelling_of_an_address_leads_home(url: str) -> None:
    async with web_server(lambda _: response("secret")) as server:
        await refusal(Network(), url.format(port=server.port))
    assert server.requests == []


async def test_the_system_itself_reads_a_spelling_and_the_answer_is_judged() -> None:
    """Not only what our own list knows: whatever the resolver makes of it is what counts."""
    assert await resolve("2130706433", 80) == ["127.0.0.1"]
    reason = await refusal(Network(), "http://2130706433/")
    assert "127.0.0.1 is not a public address" in reason
    assert "tools.ssrfWhitelist" in reason


async def test_a_name_with_one_private_address_among_others_is_refused() -> None:
    network = Network(resolve=names(example_org=["93.184.216.34", "10.0.0.1"]))
    assert "10.0.0.1 is not a public address" in await refusal(network, "http://example.org/")


async def test_a_name_that_answers_differently_the_second_time_gains_nothing() -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"], ["93.184.216.34"]]
    asked = []

    async def rebinding(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        asked.append(host)
        return answers[len(asked) - 1]

    async with web_server(lambda _: response("the checked one")) as server:
        network = loopback_network(resolve=rebinding)
        assert (await fetched(network, server.url(host="rebind.test"))).text == "the checked one"
    assert asked == ["rebind.test"]  # once: what was checked is what was connected to
    assert server.requests[0].headers["host"] == f"rebind.test:{server.port}"


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/",
        "http://metadata.google.internal/",
        "http://10.0.0.1/",
        "//10.0.0.1/",
        "file:///etc/passwd",
        "ftp://93.184.216.34/",
        "http://user:secret@93.184.216.34/",
    ],
)
async def test_a_redirect_goes_the_same_way_again(location: str) -> None:
    async with web_server(lambda _: redirect(location)) as server:
        network = loopback_network(resolve=names(metadata_google_internal=["169.254.169.254"]))
        reason = await refusal(network, server.url())
    assert "public address" in reason or "cannot be fetched" in reason or "password" in reason
    assert "secret" not in reason


async def test_a_redirect_to_what_is_no_url_is_told() -> None:
    async with web_server(lambda _: redirect("http://[::1")) as server:
        assert "redirects to what is no URL" in await refusal(loopback_network(), server.url("/a"))


async def test_redirects_are_followed_a_few_times() -> None:
    def answer(request: Request) -> bytes:
        steps = int(request.target.rpartition("/")[2])
        return redirect(str(steps - 1)) if steps else response("there")

    async with web_server(answer) as server:
        found = await fetched(loopback_network(), server.url("/a/5"))
        assert (found.text, found.url) == ("there", server.url("/a/0"))
        assert "more than 5 redirects" in await refusal(loopback_network(), server.url("/a/6"))


async def test_each_bot_has_its_own_list() -> None:
    async with web_server(lambda _: response("x")) as server:
        first, second = Network(allowed=LOOPBACK), Network()
        assert (await fetched(first, server.url())).status == 200
        await refusal(second, server.url())
        assert (await fetched(first, server.url())).status == 200


async def test_addresses_are_tried_until_one_answers() -> None:
    async with web_server(lambda _: response("x")) as server:
        network = loopback_network(resolve=names(two_test=["127.0.0.2", "127.0.0.1"]))
        assert (await fetched(network, server.url(host="two.test"))).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", "identity"])
async def test_what_is_packed_is_unpacked(encoding: str) -> None:
    content = b"text " * 1000
    raw = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(content),
        "deflate": zlib.compress(content),
        "raw deflate": raw.compress(content) + raw.flush(),
        "identity": content,
    }[encoding]
    header = f"Content-Encoding: {encoding.removeprefix('raw ')}"
    async with web_server(lambda _: response(packed, "200 OK", header)) as server:
        assert (await fetched(loopback_network(), server.url())).body == content


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_a_bomb_never_unpacks_further_than_it_may(length: int) -> None:
    inflater = Inflater("gzip")
    assert inflater.feed(gzip.compress(bytes(10 * MB)), length) == bytes(length)


async def test_a_bomb_is_cut() -> None:
    bomb = gzip.compress(bytes(512 * MB), 9)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with web_server(lambda _: response(bomb, "200 OK", "Content-Encoding: gzip")) as server:
        found = await fetched(loopback_network(), server.url())
    assert found.is_cut
    assert len(found.body) == MB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # kB on Linux


async def test_what_is_large_only_while_it_is_packed_is_cut() -> None:
    whole = gzip.compress(b"text")
    head, nothing = whole[:10], b"\0\0\0\xff\xff"  # a stored block of no bytes
    packed = head + nothing * (5 * MB) + whole[10:]
    async with web_server(lambda _: response(packed, "200 OK", "Content-Encoding: gzip")) as server:
        found = await fetched(loopback_network(), server.url())
    assert (found.body, found.is_cut) == (b"", True)


async def test_a_body_without_end_is_cut() -> None:
    async def endless(request: Request) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + bytes(8 * MB)

    async with web_server(endless) as server:
        found = await fetched(loopback_network(), server.url())
    assert (len(found.body), found.is_cut) == (MB, True)


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        (b"", "cannot be reached"),
        (b"garbage\r\n\r\n", "cannot be reached"),
        (response("x", "200 OK", "Content-Encoding: br"), "not asked for"),
        (response("xxxxx", "200 OK", "Content-Encoding: gzip"), "cannot be unpacked"),
        (
            response(gzip.compress(b"x" * 9)[:-9], "200 OK", "Content-Encoding: gzip"),
            "cannot be unpacked",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", "cannot be reached"),
    ],
    ids=["nothing", "garbage", "br", "no gzip", "half of gzip", "short", "long header"],
)
async def test_what_is_broken_is_an_error_in_words(answered: bytes, reason: str) -> None:
    async with web_server(lambda _: answered) as server:
        told = await refusal(loopback_network(), server.url("/?secret"))
    assert reason in told
    assert "secret" not in told


async def test_nobody_there_is_an_error_in_words() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert "cannot be reached" in await refusal(loopback_network(), url)
    network = Network(resolve=names())
    assert "the name nowhere.test is not known" in await refusal(network, "http://nowhere.test/")


async def test_a_silent_server_is_given_up_by_whoever_waits() -> None:
    async def silent(request: Request) -> bytes:
        await trio.sleep_forever()

    async with web_server(silent) as server:
        with trio.move_on_after(0.2) as scope:
            await loopback_network().fetch(server.url(), most_bytes=MB)
        assert scope.cancelled_caught


async def test_random_cancels_leave_no_connection_and_no_thread() -> None:
    rng = random.Random(random.getrandbits(64))

    async def slow(request: Request) -> bytes:
        await trio.sleep(rng.uniform(0, 0.02))
        return response("x" * 100_000)

    async with web_server(slow) as server:
        network = loopback_network()
        await fetched(network, server.url())
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        async def one() -> None:
            with trio.move_on_after(rng.uniform(0, 0.05)):
                await network.fetch(server.url(), most_bytes=MB)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208
        assert threading.active_count() <= threads + TOOL_THREADS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-keyout", str(key), "-out", str(cert), "-subj", "/CN=good.test"),
        *("-addext", "subjectAltName=DNS:good.test"),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs openssl: {error}")
    return key, cert


async def test_the_certificate_is_that_of_the_name_and_not_of_the_address(
    certificate: tuple[Path, Path],
) -> None:
    key, cert = certificate
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(cert, key)

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, serving, server_side=True, https_compatible=True)
        try:
            await tls.receive_some()
            await tls.send_all(response("over TLS"))
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(tls)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    network = loopback_network(
        resolve=names(good_test=["127.0.0.1"], evil_test=["127.0.0.1"]),
        tls=ssl.create_default_context(cafile=str(cert)),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        assert (await fetched(network, f"https://good.test:{port}/")).text == "over TLS"
        assert "certificate is not trusted" in await refusal(network, f"https://evil.test:{port}/")
        assert "certificate is not trusted" in await refusal(network, f"https://127.0.0.1:{port}/")
        nursery.cancel_scope.cancel()


async def test_a_proxy_is_gone_through_and_what_is_known_to_be_private_is_still_refused() -> None:
    async with web_server(lambda _: response("by proxy")) as proxy:
        network = Network(
            proxy=f"http://me:secret@127.0.0.1:{proxy.port}",
            resolve=names(example_org=["93.184.216.34"], inside_test=["10.0.0.1"]),
        )
        assert (await fetched(network, "http://example.org/a")).text == "by proxy"
        assert (await fetched(network, "http://known-to-the-proxy.test/")).text == "by proxy"
        assert "10.0.0.1" in await refusal(network, "http://inside.test/")
        assert "127.0.0.1" in await refusal(network, "http://127.0.0.1/")
    assert [request.target for request in proxy.requests] == [
        "http://example.org/a",
        "http://known-to-the-proxy.test/",
    ]
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"


async def test_a_proxy_in_the_environment_is_not_used() -> None:
    # Not patched: httpcore reads no environment. This holds it to that.
    async with web_server(lambda _: response("direct")) as server:
        before = os.environ.get("http_proxy")
        os.environ["http_proxy"] = "http://127.0.0.1:9"
        try:
            assert (await fetched(loopback_network(), server.url())).text == "direct"
        finally:
            os.environ.pop("http_proxy") if before is None else os.environ.update(http_proxy=before)


async def test_a_service_of_the_owner_may_be_anywhere_and_is_not_followed_elsewhere() -> None:
    async with web_server(lambda r: redirect("/elsewhere")) as server:
        found = await Network().ask(
            "POST", server.url("/x"), headers={"X-Key": "k"}, body=b"{}", most_bytes=MB
        )
    assert found.status == 302
    (request,) = server.requests
    assert (request.method, request.body, request.headers["x-key"]) == ("POST", b"{}", "k")
