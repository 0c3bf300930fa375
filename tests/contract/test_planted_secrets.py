"""Prompts, API keys and hub tokens are planted in real processes, and looked for in everything those write.

Provoked into errors too, at the most talkative log level: a traceback or a message of validation is where they leak.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect

from tests.support.hub.faults import Fault
from tests.support.hub.server import Hub, running
from tests.support.models import write_checkpoint
from tests.support.server_process import ServerProcess, eventually_is, free_ports, ready_server, run_to_end

PROMPT, KEY, WRONG_KEY, TOKEN = "planted-prompt-7f3a", "sk-planted-4c1d", "sk-planted-wrong-0b77", "hf_planted_9e2b"
PLANTED = (PROMPT, KEY, WRONG_KEY, TOKEN)
COMPLETION = {"model": "tiny", "prompt": PROMPT, "max_tokens": 20, "temperature": 0}
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20}
BAD_BODIES: list[Any] = [
    b'{"text": "' + PROMPT.encode(),
    b'{"text": "' + PROMPT.encode() + b'\xff"}',
    {"text": PROMPT, PROMPT: 1},
    {"text": [PROMPT]},
    {"text": PROMPT, "max_tokens": PROMPT},
    {"text": PROMPT * 5000, "max_tokens": 5},
    {**COMPLETION, "model": PROMPT},
    {**COMPLETION, "prompt": {"a": PROMPT}},
    {**COMPLETION, "logit_bias": {PROMPT: 1}},
    {**COMPLETION, "stop": [PROMPT, {"a": PROMPT}]},
    {**COMPLETION, "seed": PROMPT},
    {**COMPLETION, "suffix": PROMPT},
    {**CHAT, "messages": [{"role": PROMPT, "content": PROMPT}]},
    {**CHAT, "messages": PROMPT},
    {**CHAT, "tools": [{"type": PROMPT}]},
    {**CHAT, "response_format": {"type": PROMPT}},
]
PATHS = ("/generate", "/v1/completions", "/v1/chat/completions")


def _forms(secret: str) -> tuple[str, ...]:
    """Return a secret as it is, and as it may have been encoded; base64 in its three alignments, without the edges."""
    encoded = [base64.b64encode(b"x" * shift + secret.encode()).decode()[4:-4] for shift in range(3)]
    return (secret, quote(secret, safe=""), *encoded)


def _leaks(*places: Path | str) -> list[str]:
    """Return what of the planted secrets is found, and where."""
    texts = {str(place)[:80]: place.read_bytes() if isinstance(place, Path) else place.encode() for place in places}
    return [
        f"{secret} in {where}"
        for where, text in texts.items()
        for secret in PLANTED
        if any(form.encode() in text for form in _forms(secret))
    ]


async def _provoke(server: ServerProcess) -> list[str]:
    """Send good and bad requests in every way there is; return the texts of the completions."""
    answered = []
    headers = {"Authorization": f"Bearer {KEY}", "User-Agent": PROMPT}
    for path, body in zip(PATHS, ({"text": PROMPT, "max_tokens": 20}, COMPLETION, CHAT), strict=True):
        for stream in (False, True):
            answer = await server.public.post(path, json={**body, "stream": stream}, headers=headers)
            answered.append(answer.text)
        for bad in BAD_BODIES:
            content = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
            await server.public.post(path, content=content, headers=headers | {"Content-Type": "application/json"})
        await server.public.post(path, json=body, headers={"Authorization": f"Bearer {WRONG_KEY}"})
        await server.public.post(f"{path}?{PROMPT}={KEY}", json=body, headers={"Authorization": KEY})
    await server.public.get(f"/{PROMPT}", headers=headers)
    await server.public.get("/v1/models", headers=headers | {"Host": f"{PROMPT} {KEY}"})
    await server.send_raw(f"{PROMPT} /{KEY} HTTP/1.1\r\n\r\n".encode())
    await _hang_up(server)
    await _talk(server)
    return answered


async def _hang_up(server: ServerProcess) -> None:
    """Leave in the middle of a body."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /generate HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 999\r\n\r\n"
    writer.write(f'{head}{{"text": "{PROMPT}'.encode())
    await writer.drain()
    writer.close()


async def _talk(server: ServerProcess) -> None:
    """Send good and bad frames on a WebSocket, until the server has had enough."""
    url = f"ws://127.0.0.1:{server.port}/ws/generate"
    headers = {"Authorization": f"Bearer {KEY}"}
    frames = [{"type": "generate", "id": "a", "text": PROMPT, "max_tokens": 5}, {"type": PROMPT}, {"type": "generate"}]
    for frame in [*map(json.dumps, frames), PROMPT, f'{{"text": "{PROMPT}']:
        async with connect(url, subprotocols=["llm.v1"], additional_headers=headers) as socket:  # type: ignore[list-item]
            await socket.send(frame)
            await asyncio.wait_for(socket.recv(), 10)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "team-a").write_text(f"{KEY}\n")
    return folder


@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_no_prompt_no_answer_and_no_key_is_in_what_a_server_writes(
    tmp_path: Path, keys: Path, log_format: str
) -> None:
    talkative = {"LLMSERVICE_LOG_FORMAT": log_format, "LLMSERVICE_LOG_LEVEL": "debug", "LLMSERVICE_FAKE_FAULT": "nan"}
    settings = {**talkative, "LLMSERVICE_FAKE_FAULT_AFTER": 9, "LLMSERVICE_API_KEYS_DIR": keys}
    async with ready_server(tmp_path, HUGGING_FACE_HUB_TOKEN=TOKEN, **settings) as server:
        answers = await _provoke(server)
        metrics = (await server.management.get("/metrics")).text
        state = json.dumps(await server.state())
        server.terminate()
        await server.exit_code()
    log = (tmp_path / "log").read_text()
    assert log.count("/v1/chat/completions") > len(BAD_BODIES)
    assert _leaks(tmp_path / "log", metrics, state) == []
    said = json.loads(answers[0])["generated_text"].removeprefix(PROMPT)
    assert said[:20] not in log


@pytest.mark.parametrize("fault", ["oom", "hang", "death"])
async def test_a_failing_engine_tells_no_prompt_and_no_key(tmp_path: Path, keys: Path, fault: str) -> None:
    settings = {"LLMSERVICE_FAKE_FAULT": fault, "LLMSERVICE_LOG_LEVEL": "debug", "LLMSERVICE_API_KEYS_DIR": keys}
    async with ready_server(tmp_path, **settings) as server:
        await server.public.post("/v1/completions", json=COMPLETION, headers={"Authorization": f"Bearer {KEY}"})
        if fault == "oom":
            server.terminate()
        await server.exit_code()
    written = [tmp_path / "log", *(path for path in [server.termination_log] if path.exists())]
    assert fault == "oom" or len(written) == 2
    assert _leaks(*written) == []


async def test_a_changed_secret_is_read_without_a_word_of_it(tmp_path: Path, keys: Path) -> None:
    async with ready_server(tmp_path, LLMSERVICE_LOG_LEVEL="debug", LLMSERVICE_API_KEYS_DIR=keys) as server:
        (keys / "team-b").write_bytes(f"{WRONG_KEY}\n\xff".encode("latin-1"))

        async def is_read() -> bool:
            answer = await server.public.get("/v1/models", headers={"Authorization": f"Bearer {WRONG_KEY}"})
            return answer.status_code == 200

        await eventually_is(is_read, 20)
    assert _leaks(tmp_path / "log") == []


WARMUPS: list[Any] = [
    pytest.param({}, None, 0, id="it goes well"),
    pytest.param({"HUGGING_FACE_HUB_TOKEN": f"{TOKEN}-wrong"}, None, 65, id="a token that may not"),
    pytest.param({"HUGGING_FACE_HUB_TOKEN": f"{TOKEN}\n{TOKEN}"}, None, 65, id="a token of two lines"),
    pytest.param({"HF_TOKEN": f"{TOKEN}-other"}, None, 78, id="two tokens"),
    pytest.param({}, Fault("not-found", "/api/*"), 65, id="no such model"),
    pytest.param({}, Fault("forbidden", "*.safetensors"), 65, id="forbidden weights"),
    pytest.param({}, Fault("corrupt", "*/tokenizer.json"), None, id="a corrupt file"),
    pytest.param({"LLMSERVICE_HUB_ENDPOINT": "http://127.0.0.1:9"}, None, 75, id="no hub"),
    pytest.param({"LLMSERVICE_CACHE_DIR": "/proc/planted"}, None, None, id="no volume"),
]


@pytest.mark.parametrize(("variables", "fault", "expected"), WARMUPS)
async def test_a_warm_up_leaves_no_token_in_log_verdict_or_volume(
    tmp_path: Path, variables: dict[str, str], fault: Fault | None, expected: int | None
) -> None:
    write_checkpoint(tmp_path / "hub" / "acme" / "tiny")
    cache = tmp_path / "cache"
    cache.mkdir()
    hub = Hub(tmp_path / "hub", gated={"acme/tiny": TOKEN})
    if fault is not None:
        hub.faults.arm(fault)
    with running(hub) as endpoint:
        settings: dict[str, Any] = {
            "HUGGING_FACE_HUB_TOKEN": TOKEN,
            "LLMSERVICE_HUB_ENDPOINT": endpoint,
            "LLMSERVICE_HUB_REPO": "acme/tiny",
            "LLMSERVICE_CACHE_DIR": cache,
            "LLMSERVICE_QUANTIZATION": "none",
            "LLMSERVICE_LOG_LEVEL": "debug",
            "LLMSERVICE_HOST": "127.0.0.1",
            "LLMSERVICE_MANAGEMENT_PORT": free_ports(1)[0],
            "LLMSERVICE_TERMINATION_LOG": tmp_path / "message",
        }
        code, out, err = await run_to_end("warmup", **{**settings, **variables})
    assert code == expected or (expected is None and code != 0), (code, out, err)
    written = [path for path in (tmp_path / "message", *cache.rglob("*")) if path.is_file()]
    assert (tmp_path / "message") in written
    assert _leaks(out, err, *written) == []
    assert code == 0 or out + err
