"""How a server process starts, and how it refuses to: rows E01 to E06, E09, E12 and E13."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.support.alert_rules import exported_metrics, metrics_asked_for
from tests.support.models import write_checkpoint
from tests.support.server_process import (
    ROOT,
    command,
    environment,
    free_ports,
    ready_server,
    run_to_end,
    server_process,
    until_phase,
)

BAD_CONFIGURATION = 78


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        pytest.param(
            {"LLMSERVICE_PROT": 8000}, "LLMSERVICE_PROT: unknown variable; did you mean LLMSERVICE_PORT", id="E01"
        ),
        pytest.param({"LLMSERVICE_PORT": "http"}, "LLMSERVICE_PORT: Input should be a valid integer", id="E02"),
        pytest.param({"LLMSERVICE_DRAIN_TIMEOUT_SECONDS": -1}, "LLMSERVICE_DRAIN_TIMEOUT_SECONDS: Input", id="E03"),
        pytest.param({"HF_TOKEN": "a", "HUGGING_FACE_HUB_TOKEN": "b"}, "token given twice", id="E04"),
        pytest.param({"LLMSERVICE_LOG_LEVEL": "loud"}, "LLMSERVICE_LOG_LEVEL: Input should be 'debug'", id="E06"),
        pytest.param(
            {"LLMSERVICE_ENGINE": "transformers"}, "LLMSERVICE_MODEL_PATH: 'tiny' is no folder", id="no model"
        ),
    ],
)
async def test_a_bad_configuration_is_one_line_exit_78_and_a_termination_message(
    tmp_path: Path, variables: dict[str, object], line: str
) -> None:
    log = tmp_path / "termination-log"
    code, _, err = await run_to_end("serve", LLMSERVICE_TERMINATION_LOG=log, **variables)
    assert code == BAD_CONFIGURATION
    assert err.startswith(line)
    assert err.count("\n") == 1
    assert err.strip()[:40] in log.read_text()


async def test_e05_an_empty_api_key_refuses_to_start_and_never_opens_a_port(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "team-a").write_text("\n")
    log = tmp_path / "termination-log"
    port, management = free_ports(2)
    code, _, err = await run_to_end(
        LLMSERVICE_TERMINATION_LOG=log,
        LLMSERVICE_API_KEYS_DIR=keys,
        LLMSERVICE_PORT=port,
        LLMSERVICE_MANAGEMENT_PORT=management,
    )
    assert code == BAD_CONFIGURATION
    assert err == f"give tenant 'team-a' a key: its entry in {keys} is empty\n"
    assert '"reason":"AuthSecretInvalid"' in log.read_text()


async def test_e09_a_gpu_that_is_asked_for_and_not_there_is_exit_78_and_a_failed_engine(tmp_path: Path) -> None:
    model, log = write_checkpoint(tmp_path / "model"), tmp_path / "termination-log"
    port, management = free_ports(2)
    code, _, _ = await run_to_end(
        LLMSERVICE_ENGINE="transformers",
        LLMSERVICE_MODEL_PATH=model,
        LLMSERVICE_DEVICE="cuda",
        LLMSERVICE_PORT=port,
        LLMSERVICE_MANAGEMENT_PORT=management,
        LLMSERVICE_TERMINATION_LOG=log,
        CUDA_VISIBLE_DEVICES="",
    )
    assert code == BAD_CONFIGURATION
    assert json.loads(log.read_text())["failure"] == {
        "reason": "EngineFailed",
        "message": "set the device to auto or cpu, or schedule the pod on a node with a GPU: no CUDA device is visible",
    }


async def test_help_names_both_commands() -> None:
    code, out, _ = await run_to_end("--help")
    assert code == 0
    assert "serve" in out
    assert "warmup" in out


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    variables = {"LLMSERVICE_PORT": port, "LLMSERVICE_MANAGEMENT_PORT": port, "LLMSERVICE_HOST": "127.0.0.1"}
    code, _, err = await run_to_end(LLMSERVICE_TERMINATION_LOG=tmp_path / "log", **variables)
    assert (code, err.count("\n")) == (BAD_CONFIGURATION, 1)
    assert "Address already in use" in err


async def test_the_ports_answer_while_the_model_loads_and_readiness_follows(tmp_path: Path) -> None:
    async with server_process(tmp_path, LLMSERVICE_FAKE_LOAD_SECONDS=2) as server:
        assert (await server.management.get("/livez")).status_code == 200
        assert (await server.management.get("/readyz")).status_code == 503
        early = await server.public.post("/generate", json={"text": "hello"})
        state = await server.state()
        await until_phase(server, "Ready")
        late = await server.public.post("/generate", json={"text": "hello", "max_tokens": 3})
        assert (await server.management.get("/readyz")).status_code == 200
    assert (early.status_code, late.status_code) == (503, 200)
    assert 1 <= int(early.headers["retry-after"]) <= 5
    assert state["phase"] in ("Starting", "Loading")


async def test_a_failed_load_is_told_and_ends_the_process(tmp_path: Path) -> None:
    async with server_process(tmp_path, LLMSERVICE_FAKE_FAULT="load-failure", LLMSERVICE_FAKE_LOAD_SECONDS=1) as server:
        assert await server.exit_code() == 70
        assert server.failure()["reason"] == "EngineFailed"
        assert "told to fail" in server.failure()["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a user namespace everywhere")
async def test_e13_a_random_uid_without_a_passwd_entry_serves() -> None:
    port, variables = _as_in_a_pod()
    for name in ("USER", "LOGNAME"):
        variables.pop(name, None)
    process = await asyncio.create_subprocess_exec(
        "unshare", "--user", "--map-user=1234567", *command("serve"), cwd=ROOT, env=variables
    )
    try:
        assert await _generates(port)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("has_tmp", [False, True], ids=["E12 nothing writable", "only /tmp writable"])
async def test_on_a_read_only_root_one_line_names_the_mount_that_is_missing(tmp_path: Path, has_tmp: bool) -> None:
    port, variables = _as_in_a_pod()
    # Bound onto itself /tmp keeps what is in it, which may be this very checkout.
    read_only = "/" if has_tmp else "/tmp"
    mounts = f"mount --bind /tmp /tmp && mount -o remount,bind,ro {read_only}"
    shell = f"{mounts} && exec {' '.join(command('serve'))}"
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-c", shell, cwd=ROOT, env=variables, stderr=asyncio.subprocess.PIPE
    )
    if has_tmp:
        try:
            assert await _generates(port)
        finally:
            process.terminate()
            await process.wait()
    else:
        assert process.stderr is not None
        err = (await process.stderr.read()).decode()
        assert await process.wait() == BAD_CONFIGURATION
        assert err == "/tmp: mount a writable folder (emptyDir) there: Read-only file system\n"


async def test_start_to_ready_is_a_matter_of_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    async with ready_server(tmp_path):
        assert time.monotonic() - began < 20


def _as_in_a_pod() -> tuple[int, dict[str, str]]:
    """Return a free public port, and the environment of a server that answers on it and writes only to /tmp."""
    port, management = free_ports(2)
    variables = environment(
        HOME="/tmp",
        LLMSERVICE_PORT=port,
        LLMSERVICE_MANAGEMENT_PORT=management,
        LLMSERVICE_HOST="127.0.0.1",
        LLMSERVICE_ENDPOINT_GRACE_SECONDS=0,
    )
    return port, variables


async def _generates(port: int) -> bool:
    import httpx

    async with asyncio.timeout(30), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        while True:
            try:
                answer = await http.post("/generate", json={"text": "hello", "max_tokens": 2})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                return True
            await asyncio.sleep(0.05)


async def test_a_server_exports_what_the_alerts_ask_of_servers(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        text = (await server.management.get("/metrics")).text
    assert metrics_asked_for(of_servers=True) <= exported_metrics(text)
