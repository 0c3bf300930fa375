"""What the log says of a request, and what it never says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.model_server import running_server


async def test_one_event_for_each_request_without_its_text_or_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "team-a").write_text("sk-geheim")
    headers = {"authorization": "Bearer sk-geheim", "x-request-id": "id-7"}
    async with running_server(api_keys_dir=tmp_path, served_name="tiny") as server:
        body = {"model": "tiny", "prompt": "PROMPT-TEXT", "max_tokens": 4, "temperature": 0, "stream": True}
        answer = await server.http.post("/v1/completions", json=body, headers=headers)
        await server.http.post("/v1/completions", json=body)
    output = capsys.readouterr().out
    events = [json.loads(line) for line in output.splitlines()]
    good, refused = (event for event in events if event["event"] == "request")
    assert {key: good[key] for key in ("request_id", "route", "status", "tenant", "stream", "prompt_tokens")} == {
        "request_id": "id-7",
        "route": "/v1/completions",
        "status": 200,
        "tenant": "team-a",
        "stream": True,
        "prompt_tokens": 11,
    }
    assert (good["completion_tokens"], good["finish_reason"]) == (4, "length")
    assert (refused["status"], refused["error"]) == (401, "invalid_api_key")
    text = answer.text.split('"text":"')[1].split('"')[0]
    for secret in ("PROMPT-TEXT", "sk-geheim", text):
        assert secret not in output


@pytest.mark.parametrize("given", ["a\nb", "x" * 200, "ünïcode", "\x1b[31m"])
async def test_h45_a_request_id_that_would_harm_a_log_line_is_replaced(given: str) -> None:
    async with running_server() as server:
        answer = await server.http.get("/health", headers={b"x-request-id": given.encode()})
    assert answer.headers["x-request-id"] != given
    assert answer.headers["x-request-id"].isalnum()
