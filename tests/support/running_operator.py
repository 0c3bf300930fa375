"""The real operator, in the test's own process and loop, on a real control plane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llmservice_operator import settings
from llmservice_operator.process import Operator

SETTINGS: dict[str, Any] = {
    "images": {"server": "registry.test/server:1"},
    "defaultProfile": "cpu",
    "profiles": {"cpu": {"env": {"LLMSERVICE_ENGINE": "fake"}}},
}


@asynccontextmanager
async def running_operator(
    kubeconfig: Path | None,
    *namespaces: str,
    port: int | None = None,
    has_lease: bool = False,
    profile: dict[str, Any] | None = None,
    configuration: dict[str, Any] = SETTINGS,
) -> AsyncIterator[asyncio.Task[None]]:
    """Run the operator for the given namespaces (none: all) while the body does; it is ready when the body starts.

    Without a kubeconfig it finds the API server as in a pod. With a Lease, which is in the first of the namespaces, it
    writes as soon as it leads. `profile` are fields of the profile `cpu` beside those that the configuration has.
    """
    profiles = dict(configuration["profiles"])
    if profile:
        profiles["cpu"] = {**profiles["cpu"], **profile}
    parsed = settings.parse({**configuration, "profiles": profiles, "watchNamespaces": list(namespaces)})
    operator = Operator(parsed, kubeconfig, port, lease_namespace=namespaces[0] if has_lease else None)
    task = asyncio.create_task(operator.run())
    ready = asyncio.create_task(operator.is_ready.wait())
    try:
        async with asyncio.timeout(15):
            await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield task
    finally:
        ready.cancel()
        task.cancel()
        await asyncio.wait([task, ready])
