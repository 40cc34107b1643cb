"""Clients that others wrote, against `nanobot serve` in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nanobot.testing import Answer, Cut, RecordedRequest, scripted_server

pytestmark = pytest.mark.peer

KEY = "peer-key"
NPM = Path(sys.prefix) / "npm"  # inside .venv: installed once, and removed by `make clean`


class Peer(NamedTuple):
    """Where the server is, and where its session files would be."""

    base_url: str
    folder: Path


def answer(request: RecordedRequest) -> Answer | str:
    said = [text.splitlines()[0] for text in request.user_texts]
    if said[-1] == "break":
        return Answer("one two three", fault=Cut(after_deltas=2))
    return f"{len(said)}: {said[-1]}"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    with scripted_server(answer) as model:
        config = {
            "agents": {"defaults": {"model": "scripted/m"}},
            "providers": {"scripted": {"apiKey": "k", "apiBase": model.base_url}},
            "api": {"apiKey": KEY, "port": 0, "decideApprovals": True},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "nanobot", "serve", "-c", str(tmp_path / "config.json")]
        command += ["-w", str(tmp_path / "w")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield Peer(process.stdout.readline().split()[-1], tmp_path)
            process.terminate()
            assert process.wait(30) == 0


def test_openai_for_python(peer: Peer) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=peer.base_url, api_key=KEY) as client:
        assert [model.id for model in client.models.list()] == ["scripted/m"]
        create = client.chat.completions.create
        first = create(model="nanobot", messages=user("one"), extra_body={"session_id": "p"})
        assert first.choices[0].message.content == "1: one"
        assert first.usage.total_tokens == 15
        second = create(model="nanobot", messages=user("two"), extra_body={"session_id": "p"})
        assert second.choices[0].message.content == "2: two"
        chunks = [
            *create(
                model="nanobot",
                messages=user("three"),
                user="q",
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "1: three"
        assert chunks[-1].usage.total_tokens == 15

        response = client.responses.create(model="nanobot", input="four", user="q")
        assert response.output_text == "2: four"
        with client.responses.stream(model="nanobot", input="five", user="q") as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_response().output_text == "3: five"
        assert kinds[-1] == "response.completed"

        with pytest.raises(openai.NotFoundError, match="gpt-0") as refused:
            create(model="gpt-0", messages=user("x"))
        assert refused.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            create(model="nanobot", messages=[])
        assert refused.value.param == "messages"
        with pytest.raises(openai.APIError):
            for _ in create(model="nanobot", messages=user("break"), user="b", stream=True):
                pass
        with pytest.raises(openai.APIError):
            for _ in client.responses.create(model="nanobot", input="break", user="c", stream=True):
                pass
    with openai.OpenAI(base_url=peer.base_url, api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_openai_for_python_in_asyncio(peer: Peer) -> None:
    openai = pytest.importorskip("openai")

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=peer.base_url, api_key=KEY) as client:
            create = client.chat.completions.create

            async def ask(number: int) -> str:
                stream = await create(
                    model="nanobot", messages=user(f"q{number}"), user=f"u{number}", stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            answers = await asyncio.gather(*(ask(number) for number in range(20)))
            assert answers == [f"1: q{number}" for number in range(20)]
            transcript = [*user("a"), {"role": "assistant", "content": "b"}, *user("c")]
            whole = await create(model="nanobot", messages=transcript, user="u0")
            assert whole.choices[0].message.content == "2: c"
            continued = await client.responses.create(model="nanobot", input="again", user="u0")
            assert continued.output_text == "2: again"

    asyncio.run(main())


@pytest.mark.parametrize("responses_api", [False, True])
def test_langchain_openai(peer: Peer, responses_api: bool) -> None:
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(
        model="nanobot", base_url=peer.base_url, api_key=KEY, use_responses_api=responses_api
    )
    conversation = [("system", "Be brief."), ("user", "one"), ("ai", "1"), ("user", "two")]
    assert model.invoke(conversation).text == "2: two"
    assert "".join(piece.text for piece in model.stream("three")) == "1: three"
    assert model.invoke("four").usage_metadata["total_tokens"] == 15


def test_the_llm_command(peer: Peer, tmp_path: Path) -> None:
    pytest.importorskip("llm")
    folder = tmp_path / "llm"
    folder.mkdir()
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: nanobot\n  model_name: nanobot\n  api_base: {peer.base_url}\n  api_key_name: nb\n"
    )
    (folder / "keys.json").write_text(json.dumps({"nb": KEY}))
    env = {**os.environ, "LLM_USER_PATH": str(folder)}

    def llm(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", *arguments]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    assert llm("-m", "nanobot", "one") == "1: one"
    assert llm("-c", "two") == "2: two"
    assert llm("-m", "nanobot", "-s", "Be brief.", "--no-stream", "three") == "1: three"


def test_openai_for_node(peer: Peer) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    if not (NPM / "node_modules" / "openai").exists():
        install = [
            npm,
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(NPM),
            "openai",
        ]
        if subprocess.run(install, check=False, timeout=100).returncode:
            pytest.skip("npm cannot install openai here")
    program = """
        import OpenAI from "openai";
        const [baseURL, apiKey] = process.argv.slice(2);
        const client = new OpenAI({ baseURL, apiKey });
        const messages = (content) => [{ role: "user", content }];
        const told = [];
        const whole = await client.chat.completions.create(
            { model: "nanobot", messages: messages("one"), user: "n" });
        told.push(whole.choices[0].message.content);
        const stream = await client.chat.completions.create(
            { model: "nanobot", messages: messages("two"), user: "n", stream: true });
        let text = "";
        for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
        told.push(text);
        told.push((await client.responses.create({ model: "nanobot", input: "three", user: "n" })).output_text);
        const events = await client.responses.create(
            { model: "nanobot", input: "four", user: "n", stream: true });
        for await (const event of events)
            if (event.type === "response.completed") told.push(event.response.output[0].content[0].text);
        try {
            const broken = await client.chat.completions.create(
                { model: "nanobot", messages: messages("break"), user: "m", stream: true });
            for await (const chunk of broken);
            told.push("a clean end");
        } catch (error) {
            told.push(error.constructor.name);
        }
        try {
            await client.chat.completions.create({ model: "gpt-0", messages: messages("x") });
        } catch (error) {
            told.push(`${error.status} ${error.code}`);
        }
        console.log(JSON.stringify(told));
    """
    script = NPM / "peer.mjs"
    script.write_text(program)
    completed = subprocess.run(
        [node, str(script), peer.base_url, KEY],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout) == [
        "1: one",
        "2: two",
        "3: three",
        "4: four",
        "APIError",
        "404 model_not_found",
    ]


@pytest.mark.timeout(400)  # a thousand requests
def test_schemathesis_finds_the_published_description_true(peer: Peer, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    config = tmp_path / "schemathesis.toml"
    # A request may match the description and name a model, an image or a transcript that is of no use.
    config.write_text(
        '[checks]\npositive_data_acceptance.expected-statuses = ["2xx", 404, 413, 422, 429]\n'
    )
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config)]
    command += ["run", f"{peer.base_url.removesuffix('/v1')}/openapi.json", "--no-color"]
    command += ["-H", f"Authorization: Bearer {KEY}", "--max-examples", "30", "--seed", "1"]
    command += ["--suppress-health-check", "filter_too_much"]
    completed = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=380
    )
    assert completed.returncode == 0, completed.stdout


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]
