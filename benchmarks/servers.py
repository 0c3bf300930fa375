"""The servers that are measured: how each is started, when it is ready, and what one request to it looks like."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import installed
from benchmarks.processes import LOGS, environment, running

SLOTS = 32
READY_SECONDS = 600.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Server:
    """One server on a free port. `body` makes a request from a prompt and a number of new tokens."""

    name: str
    command: list[str]
    port: int
    path: str
    body: Callable[[str, int], dict[str, Any]]
    ready: tuple[int, str]
    """Port and path that answer 200 once the model is loaded."""
    variables: Mapping[str, str] = field(default_factory=dict)
    python_path: bool = False
    one_at_a_time: bool = False


@dataclass(frozen=True)
class Running:
    """A server that is ready, `ready_seconds` after its start; `session` is that of all its processes."""

    server: Server
    session: int
    ready_seconds: float


def server(name: str, model: Path) -> Server:
    """Return the server `name` for the checkpoint `model`, installing a peer's environment if need be."""
    match name:
        case "ours":
            return ours(name, model, "none")
        case "ours-nf4":
            return ours(name, model, "nf4")
        case "generate":
            return _generate(model)
        case "transformers-serve":
            return _transformers_serve(model)
        case "vllm-cpu":
            return _vllm_cpu(model)
        case _:
            raise ValueError(f"no server {name!r}")


def ours(name: str, model: Path, quantization: str) -> Server:
    """Return our server, with as many slots as the largest load has requests in flight."""
    port, management = _free_ports(2)
    variables = {
        "MODEL_NAME": model.name,
        "LLMSERVICE_MODEL_PATH": str(model),
        "LLMSERVICE_QUANTIZATION": quantization,
        "LLMSERVICE_MAX_BATCH_SIZE": str(SLOTS),
        "LLMSERVICE_MAX_QUEUE_DEPTH": "1000",
        "LLMSERVICE_HOST": "127.0.0.1",
        "LLMSERVICE_PORT": str(port),
        "LLMSERVICE_MANAGEMENT_PORT": str(management),
        "LLMSERVICE_LOG_LEVEL": "warning",
        "LLMSERVICE_ENDPOINT_GRACE_SECONDS": "0",
        "LLMSERVICE_TERMINATION_LOG": str(LOGS / f"{name}.termination"),
    }
    command = [sys.executable, "-m", "inference_server", "serve"]
    body = _completion(model.name)
    ready = (management, "/readyz")
    return Server(name, command, port, "/v1/completions", body, ready, variables, python_path=True)


def _generate(model: Path) -> Server:
    (port,) = _free_ports(1)
    command = [sys.executable, "-m", "benchmarks.generate_server", str(model), str(port)]

    def body(prompt: str, new_tokens: int) -> dict[str, Any]:
        return {"text": prompt, "max_tokens": new_tokens, "temperature": 0}

    ready = (port, "/health")
    return Server("generate", command, port, "/generate", body, ready, python_path=True, one_at_a_time=True)


def _transformers_serve(model: Path) -> Server:
    """Return transformers' own server. Its KV memory is set, as it would take 60 % of the machine's."""
    (port,) = _free_ports(1)
    command = [str(installed("transformers-serve") / "transformers"), "serve", str(model), "--continuous-batching"]
    command += ["--cb-num-blocks", "128", "--cb-max-batch-tokens", "1024", "--device", "cpu", "--dtype", "bfloat16"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # Its streams end with the usage unasked; it would log a line about `stream_options`.
    body = _completion(str(model), stream_options=None)
    return Server("transformers-serve", command, port, "/v1/completions", body, (port, "/health"))


def _vllm_cpu(model: Path) -> Server:
    """Return vLLM's CPU build on all cores; by itself it would keep one core free of the model."""
    (port,) = _free_ports(1)
    command = [str(installed("vllm-cpu") / "vllm"), "serve", str(model), "--served-model-name", model.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    variables = {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    body = _completion(model.name, ignore_eos=True)
    return Server("vllm-cpu", command, port, "/v1/completions", body, (port, "/health"), variables)


def _completion(model: str, **fields: Any) -> Callable[[str, int], dict[str, Any]]:
    """Return a maker of greedy streamed requests; a field that is None is left out.

    No end of sequence is asked to be ignored: the checkpoints have none.
    """
    usual = {"model": model, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}, **fields}
    fixed = {name: value for name, value in usual.items() if value is not None}
    return lambda prompt, new_tokens: {**fixed, "prompt": prompt, "max_tokens": new_tokens}


@contextmanager
def started(server: Server) -> Iterator[Running]:
    """Start `server`, wait until it is ready, and end it in the end.

    Raises:
        RuntimeError: it ended, or was not ready within READY_SECONDS.
    """
    variables = environment(server.variables, server.python_path)
    began = time.monotonic()
    with running(server.name, server.command, variables) as process:
        _until_ready(server, process, began + READY_SECONDS)
        yield Running(server, process.pid, time.monotonic() - began)


def _until_ready(server: Server, process: subprocess.Popen[bytes], deadline: float) -> None:
    while not _is_ready(*server.ready):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} does not become ready; see {LOGS / server.name}.log")
        time.sleep(POLL_SECONDS)


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on; they are held together, so they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
