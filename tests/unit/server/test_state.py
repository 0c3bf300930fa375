"""The state document, the probes' answers and the termination message."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from inference_server import termination
from inference_server.management import ManagementApp
from inference_server.metrics import Metrics
from inference_server.state import Failure, Load, PhaseProgress, ServedModel, ServerState
from inference_server.web.record import RequestRecord


def test_the_document_has_the_documented_shape() -> None:
    state = ServerState(
        model=ServedModel("org/model@main", "abc", "sha256:0", "nf4"),
        load=lambda: Load(2, 1, 8, tokens_per_second=33.5, waiting_tokens=40, kv_capacity_tokens=4096),
    )
    state.enter("Loading", PhaseProgress(3, 10, "tensors", 7.5))
    assert state.document() == {
        "schema": 1,
        "phase": "Loading",
        "progress": {"done": 3, "total": 10, "unit": "tensors", "eta_seconds": 7.5},
        "model": {"ref": "org/model@main", "revision": "abc", "digest": "sha256:0", "quantization": "nf4"},
        "load": {
            "running": 2,
            "waiting": 1,
            "slots": 8,
            "tokens_per_second": 33.5,
            "waiting_tokens": 40,
            "kv_capacity_tokens": 4096,
        },
        "failure": None,
    }


def test_a_failure_stays_and_the_first_one_counts() -> None:
    state = ServerState()
    state.fail("EngineFailed", "first")
    state.fail("CacheFull", "second")
    state.enter("Ready")
    assert (state.phase, state.failure) == ("Failed", Failure("EngineFailed", "first"))


def _starting(state: ServerState) -> None:
    assert state.phase == "Starting"


def _failed(state: ServerState) -> None:
    state.fail("EngineFailed", "the engine died")


@pytest.mark.parametrize(
    ("prepare", "livez", "readyz", "text"),
    [
        pytest.param(_starting, 200, 503, "phase is Starting\n", id="starting"),
        pytest.param(lambda state: state.enter("Loading"), 200, 503, "phase is Loading\n", id="loading"),
        pytest.param(lambda state: state.enter("Ready"), 200, 200, "ok\n", id="ready"),
        pytest.param(lambda state: state.enter("Draining"), 200, 503, "phase is Draining\n", id="draining"),
        pytest.param(_failed, 503, 503, "EngineFailed: the engine died\n", id="failed"),
    ],
)
async def test_probes(prepare, livez: int, readyz: int, text: str) -> None:  # type: ignore[no-untyped-def]
    state = ServerState()
    prepare(state)
    transport = httpx.ASGITransport(ManagementApp(state, Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod:9090") as http:
        assert (await http.get("/livez")).status_code == livez
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.text) == (readyz, text)
        assert (await http.get("/internal/v1/state")).json() == state.document()
        assert (await http.get("/other")).status_code == 404


async def test_metrics_are_prometheus_text_with_our_names() -> None:
    metrics, state = Metrics(), ServerState(load=lambda: Load(running=3))
    metrics.watch(state)
    metrics.request_answered("/generate", 200, RequestRecord("a", finish_reason="stop"), 0.5)
    transport = httpx.ASGITransport(ManagementApp(state, metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod:9090") as http:
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    assert 'llmservice_requests_total{code="200",finish_reason="stop",route="/generate"} 1.0' in lines
    assert "llmservice_requests_running 3.0" in lines


def test_the_termination_message_is_one_json_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log"
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(file))
    termination.write_failure("EngineFailed", "the engine died")
    assert json.loads(file.read_text()) == {
        "schema": 1,
        "failure": {"reason": "EngineFailed", "message": "the engine died"},
    }
    termination.write_verdict({"outcome": "Downloaded", "bytes": 5})
    assert json.loads(file.read_text()) == {"schema": 1, "verdict": {"outcome": "Downloaded", "bytes": 5}}


def test_a_long_termination_message_is_cut_and_stays_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log"
    monkeypatch.setenv("LLMSERVICE_TERMINATION_LOG", str(file))
    termination.write_failure("EngineFailed", "ü\x00" * 5000)
    assert len(file.read_bytes()) <= 4096
    assert json.loads(file.read_text())["failure"]["message"].startswith("ü\x00ü")
    with pytest.raises(ValueError, match="does not fit"):
        termination.write_verdict({"path": "x" * 5000})
