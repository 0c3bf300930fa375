"""kopf as the outer shell: it sees LLMServices come and go and puts their keys on the queue; nothing else happens here.

It runs in a thread with an event loop of its own, because kopf ends by cancelling every task that began after it did,
and it ends on the first watch error it does not know. Here its end costs nothing: it is started again, and our own
watches never stopped.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import kopf
import structlog

from llmservice_operator import names
from llmservice_operator.cluster.login import Credentials
from llmservice_operator.cluster.resources import Key

logger = structlog.get_logger(__name__)

RESTART_SECONDS: Final = 5.0
LONGEST_BACKOFF_SECONDS: Final = 30.0
STOP_SECONDS: Final = 3.0
TLS_GOODBYE_SECONDS: Final = 0.25


class JitteredBackoffs:
    """Delays between attempts, without end. kopf iterates anew for each request, which would exhaust a generator."""

    def __iter__(self) -> Iterator[float]:
        delay = 1.0
        while True:
            yield random.uniform(delay / 2, delay)  # noqa: S311 - jitter, not a secret
            delay = min(LONGEST_BACKOFF_SECONDS, delay * 2)


def registry(added: Callable[[Key], None], login: Callable[[], Awaitable[Credentials]]) -> kopf.OperatorRegistry:
    """Return the handlers. `added` must be safe to call from another thread; `login` returns a coroutine of
    Credentials.
    """
    handlers = kopf.OperatorRegistry()

    @kopf.on.startup(registry=handlers)
    def started(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        logger.info("kopf started")

    @kopf.on.cleanup(registry=handlers)
    def stopped(**_: Any) -> None:
        logger.info("kopf stopped")

    @kopf.on.login(registry=handlers)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return _connection(await login())

    # A coroutine: kopf takes a function to a thread, for every event.
    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=handlers)
    async def seen(namespace: str | None, name: str | None, **_: Any) -> None:
        if namespace is not None and name is not None:
            added(Key(namespace, name))

    return handlers


class NoDiffBase(kopf.DiffBaseStorage):
    """What kopf remembers of an object, for handlers that we have not: nothing. By itself it would read it from an
    annotation at every event, and stumble there over whatever somebody has written into it.
    """

    def fetch(self, **_: Any) -> None:
        """Return that nothing is known."""

    def store(self, **_: Any) -> None:
        """Keep nothing."""


def configure(settings: kopf.OperatorSettings) -> None:
    """Keep kopf from writing anything, from looking at other kinds, and from giving up."""
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None  # It would kill the whole process, ours included.
    settings.scanning.disabled = True
    settings.peering.standalone = True
    # Nothing is ever stored by these; should a later mistake make kopf store something, it is under our own name.
    settings.persistence.finalizer = f"{names.GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.networking.error_backoffs = JitteredBackoffs()
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 5.0
    settings.watching.chunk_size = 100
    settings.watching.inactivity_timeout = 90.0


def _connection(credentials: Credentials) -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_path,
        insecure=credentials.insecure,
        certificate_path=credentials.certificate_path,
        private_key_path=credentials.private_key_path,
        scheme="Bearer" if credentials.token else None,
        token=credentials.token,
        expiration=credentials.expiration,
    )


class KopfThread:
    """Runs kopf until `stop`, starting it again whenever it ends."""

    def __init__(self, handlers: kopf.OperatorRegistry, namespaces: Sequence[str]):
        self._handlers = handlers
        self._namespaces = tuple(namespaces)
        self._stop = threading.Event()
        # A daemon: a process that must end does not wait for a request of kopf's that hangs.
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    async def stop(self) -> None:
        """Ask kopf to end and wait for it, but not for long."""
        self._stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self._thread.is_alive():  # noqa: ASYNC110 - a thread sets no event of our loop
                    await asyncio.sleep(0.05)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                asyncio.run(self._operate())
            except Exception as error:  # noqa: BLE001 - whatever ends it, it is started again
                logger.warning("kopf ended", error=f"{type(error).__name__}: {error}", restart_seconds=RESTART_SECONDS)
            self._stop.wait(RESTART_SECONDS)

    async def _operate(self) -> None:
        try:
            await kopf.operator(
                registry=self._handlers,
                stop_flag=self._stop,
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
            )
        finally:
            # kopf cancels its watches and returns; their TLS connections need a moment more,
            # and this loop is closed next.
            await asyncio.sleep(TLS_GOODBYE_SECONDS)
