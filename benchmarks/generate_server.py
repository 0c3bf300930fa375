"""The original design, to measure against: FastAPI, `model.generate` in a thread, one request at a time behind a lock.

    python -m benchmarks.generate_server MODEL_FOLDER PORT

It answers whole texts, as the original did, so its time to first token is its time to the last.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from transformers import AutoModelForCausalLM, AutoTokenizer


def app(folder: str) -> FastAPI:
    """Return the application, its model loaded."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lock = asyncio.Lock()
    routes = FastAPI()

    @torch.no_grad()
    def generated(text: str, max_tokens: int, temperature: float) -> dict[str, Any]:
        prompt = tokenizer(text, return_tensors="pt")
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        output = model.generate(**prompt, max_new_tokens=max_tokens, **sampling)[0, prompt["input_ids"].shape[1] :]
        return {"generated_text": tokenizer.decode(output), "completion_tokens": len(output)}

    @routes.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @routes.post("/generate")
    async def generate(request: Request) -> dict[str, Any]:
        body = await request.json()
        async with lock:
            # Not in the original: without it a measurement would wait for what the last one gave up.
            if await request.is_disconnected():
                return {}
            return await asyncio.to_thread(generated, body["text"], body["max_tokens"], body["temperature"])

    return routes


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
