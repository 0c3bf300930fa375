"""Asks pods that are downloading or loading how far they are: for people's eyes only, so late, seldom and never
awaited.

A pod is asked on its management port, without redirects, for at most 16 KiB within two seconds. Only pods that belong
to an LLMService come here (`cluster.belonging`), and no verdict is ever taken from what they say.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import aiohttp

from llmservice_operator import names
from llmservice_operator.cluster.resources import Key
from llmservice_operator.manifest import Manifest

PERIOD_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 2.0
ANSWER_BYTES: Final = 16 * 1024
AT_ONCE: Final = 16
STATE_SCHEMA: Final = 1


class ProgressPoller:
    """Remembers which pods each LLMService wants to hear from, and what they said last."""

    def __init__(self, changed: Callable[[Key], None], port: int = names.MANAGEMENT_PORT):
        self._changed = changed
        self._port = port
        self._wanted: dict[Key, dict[str, str]] = {}
        self._reports: dict[Key, dict[str, Manifest]] = {}
        self._wake = asyncio.Event()

    def watch(self, key: Key, pods: Iterable[Manifest]) -> None:
        """Ask exactly these pods of `key` from now on; no pods, nothing remembered."""
        wanted = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
        if not wanted:
            self._wanted.pop(key, None)
            self._reports.pop(key, None)
            return
        self._wanted[key] = wanted
        self._reports[key] = {pod: said for pod, said in self._reports.get(key, {}).items() if pod in wanted}
        self._wake.set()

    def reports(self, key: Key) -> Mapping[str, Manifest]:
        """Return what the pods of `key` said last, by pod name."""
        return dict(self._reports.get(key, {}))

    async def run(self) -> None:
        """Ask every period until cancelled; sleep while there is nobody to ask."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        # Nothing is unpacked: 16 KiB can hold a thousand times as much.
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False, auto_decompress=False) as session:
            limit = asyncio.Semaphore(AT_ONCE)
            while True:
                self._wake.clear()
                if not self._wanted:
                    await self._wake.wait()
                async with asyncio.TaskGroup() as tasks:
                    for key, pods in list(self._wanted.items()):
                        for pod, address in pods.items():
                            tasks.create_task(self._poll(session, limit, key, pod, address))
                await asyncio.sleep(PERIOD_SECONDS)

    async def _poll(
        self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, key: Key, pod: str, address: str
    ) -> None:
        async with limit:
            report = await self._ask(session, address)
        if report is None or self._wanted.get(key, {}).get(pod) != address:
            return
        known = self._reports[key]
        if known.get(pod) != report:
            known[pod] = report
            self._changed(key)

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> Manifest | None:
        """Return a pod's state, or None: it does not listen yet, or it says something we do not understand."""
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self._port}/internal/v1/state"
        try:
            async with session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    return None
                answer = json.loads(await _bounded(response))
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError, RecursionError):
            return None  # RecursionError: a pod may say anything, thousands of nested brackets too.
        return answer if isinstance(answer, dict) and answer.get("schema") == STATE_SCHEMA else None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, cut where it is too long: then it is no JSON any more."""
    chunks = bytearray()
    async for chunk in response.content.iter_any():
        chunks += chunk
        if len(chunks) > ANSWER_BYTES:
            return b""
    return bytes(chunks)
