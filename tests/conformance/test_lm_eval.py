"""lm-eval's `local-completions` against our server: its log-likelihoods and texts are those of transformers."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.server_process import ROOT, ServerProcess

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

INSTALLED = ROOT / "build" / "lm-eval"
TASKS = ROOT / "tests" / "conformance" / "lm_eval_tasks"
QUESTIONS = [json.loads(line) for line in (TASKS / "questions.jsonl").read_text().splitlines()]


async def test_lm_eval_finds_what_transformers_says(tiny: ServerProcess, tiny_model: Path, tmp_path: Path) -> None:
    await _lm_eval(tiny, tiny_model, tmp_path)
    model = _Reference(tiny_model)
    chosen, continued = _samples(tmp_path, "choose"), _samples(tmp_path, "continue")
    assert len(chosen) == len(continued) == len(QUESTIONS)
    for sample, question in zip(chosen, QUESTIONS, strict=True):
        for (found,), choice in zip(sample["resps"], question["choices"], strict=True):
            logprob, is_greedy = model.loglikelihood(question["question"], choice)
            assert float(found[0]) == pytest.approx(logprob, abs=1e-3)
            assert str(found[1]) == str(is_greedy)
    for sample, question in zip(continued, QUESTIONS, strict=True):
        expected = re.split("\n\n|zz", model.greedy(question["question"], 12))[0]
        assert sample["resps"] == [[expected]]


async def _lm_eval(server: ServerProcess, model: Path, out: Path) -> None:
    assert (INSTALLED / "bin").is_dir(), "run `make conformance`, which installs lm-eval"
    base_url = f"http://127.0.0.1:{server.port}/v1/completions"
    arguments = f"model=tiny,base_url={base_url},tokenizer={model},tokenizer_backend=huggingface,num_concurrent=4"
    process = await asyncio.create_subprocess_exec(
        str(INSTALLED / "bin" / "lm_eval"),
        *("--model", "local-completions", "--model_args", arguments, "--tasks", "choose,continue"),
        *("--include_path", str(TASKS), "--log_samples", "--output_path", str(out)),
        cwd=TASKS,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": str(out / "home"),
            "PYTHONPATH": "",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(150):
        log, _ = await process.communicate()
    assert process.returncode == 0, log.decode()[-3000:]


def _samples(out: Path, task: str) -> list[dict[str, Any]]:
    """Return what lm-eval wrote down for each question, in their order."""
    (file,) = out.rglob(f"samples_{task}_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted(samples, key=lambda sample: int(sample["doc_id"]))


class _Reference:
    """The same model by transformers' own modules, in float32."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder)

    def loglikelihood(self, context: str, continuation: str) -> tuple[float, bool]:
        """Return the log-probability of `continuation` after `context`, and whether it is the likeliest."""
        import torch

        start = len(self._tokenizer(context)["input_ids"])
        ids = torch.tensor([self._tokenizer(context + continuation)["input_ids"]])
        with torch.inference_mode():
            logprobs = self._model(ids).logits[0, start - 1 : -1].float().log_softmax(-1)
        said = logprobs.gather(-1, ids[0, start:, None])[:, 0]
        return float(said.sum()), bool((said == logprobs.max(-1).values).all())

    def greedy(self, prompt: str, tokens: int) -> str:
        """Return the likeliest continuation."""
        import torch

        ids = torch.tensor([self._tokenizer(prompt)["input_ids"]])
        said = self._model.generate(ids, max_new_tokens=tokens, do_sample=False)[0, ids.shape[1] :]
        text: str = self._tokenizer.decode(said, skip_special_tokens=True)
        return text
