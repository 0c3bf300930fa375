"""A few seconds of each part of `make soak`: the same code with small numbers, and bounds that a busy machine keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvicorn

from inference_server.management import QuietServer, bind
from inference_server.web.http_protocol import BoundedHttpProtocol
from tests.soak import correctness, disconnects, ends, out_of_memory, overload, requests
from tests.support.model_server import eventually, running_server
from tests.support.models import write_checkpoint

pytestmark = pytest.mark.timeout(180)
"""They take a few seconds each; where others compete for the cores, ten times that."""

BUSY_MACHINE = overload.Bounds(goodput_share=0.5, refusal_p99_seconds=5, memory_growth=0.5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the settings of a server with a tiny real model."""
    folder = write_checkpoint(tmp_path_factory.mktemp("models") / "tiny")
    return {
        "LLMSERVICE_ENGINE": "transformers",
        "LLMSERVICE_MODEL_PATH": folder,
        "LLMSERVICE_QUANTIZATION": "none",
        "LLMSERVICE_MAX_BATCH_SIZE": 16,
    }


async def test_clients_that_leave_the_fake_engine_leave_nothing_behind(tmp_path: Path) -> None:
    report = await disconnects.leave_no_trace(tmp_path, 400, disconnects.FAKE)
    assert report.findings == []


async def test_clients_that_leave_a_real_model_leave_nothing_behind(tmp_path: Path, tiny: dict[str, object]) -> None:
    report = await disconnects.leave_no_trace(tmp_path, 150, tiny)
    assert report.findings == []


async def test_clients_that_leave_leave_no_task_behind() -> None:
    async with running_server(max_queue_depth=64, fake_tokens_per_second=500.0) as server:
        listener = bind("127.0.0.1", 0)
        public = QuietServer(
            uvicorn.Config(server.app, http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None)
        )
        serving = asyncio.create_task(public.serve(sockets=[listener]))
        before = asyncio.all_tasks()
        await disconnects.disconnect(listener.getsockname()[1], 300, seed=0)
        await eventually(lambda: asyncio.all_tasks() <= before)
        assert server.client.in_flight == 0
        public.should_exit = True
        await serving


async def test_a_slot_goes_from_a_client_that_leaves_to_the_next_one(tmp_path: Path) -> None:
    report = await disconnects.slots_change_hands(tmp_path, 11, {"LLMSERVICE_FAKE_TOKENS_PER_SECOND": 50})
    assert report.findings == []


async def test_generated_requests_are_answered_as_the_document_says(tmp_path: Path) -> None:
    report = await requests.answer_everything(tmp_path, 300)
    assert report.findings == []


async def test_a_server_offered_ten_times_its_capacity_answers_as_much_as_before(tmp_path: Path) -> None:
    report = await overload.ten_times_saturation(tmp_path, 4, 3, BUSY_MACHINE)
    assert report.findings == []


async def test_a_server_under_load_ends_in_order_on_sigterm(tmp_path: Path) -> None:
    report = await ends.terminate_under_load(tmp_path, stream_seconds=2.5, grace_seconds=1, exit_seconds=5)
    assert report.findings == []


async def test_an_engine_killed_under_load_is_told_to_every_client(tmp_path: Path) -> None:
    report = await ends.kill_the_engine_under_load(tmp_path)
    assert report.findings == []


async def test_only_what_runs_out_of_memory_fails(tmp_path: Path) -> None:
    report = await out_of_memory.only_the_offender_fails(tmp_path, 12)
    assert report.findings == []


def test_each_request_of_a_mixed_batch_is_answered_as_if_alone(tmp_path: Path) -> None:
    report = correctness.batched_as_alone(tmp_path, 60)
    assert report.findings == []
