"""`python -m inference_server`: `serve` (the default) serves a model, `warmup` fills the cache volume with one, `sweep`
removes from it what nobody needs any more.

Everything heavy is imported after the ports are bound and the engine process is on its way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import structlog

from inference_server import logging, termination
from inference_server.settings import ConfigurationError, Settings, read_settings

BAD_CONFIGURATION = 78
INTERNAL_ERROR = 70


def main() -> int:
    """Run the command and return the exit code; a bad configuration is one line on stderr and 78."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_server",
        description="Serves one language model over HTTP, or looks after the cache volume that it lies on. "
        "All settings are environment variables; see docs/ for the list.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "warmup", "sweep"),
        default="serve",
        help="serve: answer on the public and the management port (default); "
        "warmup: download, verify and quantize the model into the cache volume, then exit; "
        "sweep: remove from the cache volume all but the folders in LLMSERVICE_CACHE_KEEP, then exit",
    )
    command = parser.parse_args().command
    try:
        settings = read_settings()
        logging.configure(settings.log_format, settings.log_level)
        return _run(command, settings)
    except ConfigurationError as error:
        return _refuse("EngineFailed", str(error))
    except Exception as error:  # noqa: BLE001 - the last resort: what ends this process is told in its status
        structlog.get_logger(__name__).exception("internal error")
        reason = "EngineFailed" if command == "serve" else "WarmupFailed"
        termination.write_failure(reason, f"internal error: {type(error).__name__}; its traceback is in the log")
        return INTERNAL_ERROR


def _run(command: str, settings: Settings) -> int:
    match command:
        case "warmup":
            return _warmup(settings)
        case "sweep":
            return _sweep(settings)
    return _serve(settings)


def _serve(settings: Settings) -> int:
    from inference_server.engine.client import start_process
    from inference_server.management import bind

    _check_writable(Path("/tmp"))  # noqa: S108 - the mount that the check is about
    config = settings.engine_config()
    try:
        public = bind(settings.host, settings.port)
        management = bind(settings.host, settings.management_port)
    except OSError as error:
        raise ConfigurationError(f"LLMSERVICE_PORT, LLMSERVICE_MANAGEMENT_PORT: {error}") from error
    engine = start_process(config)
    try:
        from inference_server import serve
        from inference_server.web.auth import AuthSecretInvalid

        return serve.run(settings, public, management, engine)
    except AuthSecretInvalid as error:
        return _refuse("AuthSecretInvalid", str(error))
    finally:
        engine[0].kill()
        engine[0].wait()


def _check_writable(folder: Path) -> None:
    """Refuse to start where the libraries of the engine could not write their temporary files."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise ConfigurationError(f"{folder}: mount a writable folder (emptyDir) there: {error.strerror}") from error


def _warmup(settings: Settings) -> int:
    from inference_server.cache.warmup import run

    return run(settings)


def _sweep(settings: Settings) -> int:
    from inference_server.cache.sweep import run

    return run(settings)


def _refuse(reason: str, message: str) -> int:
    line = " ".join(message.split())
    termination.write_failure(reason, line)
    sys.stderr.write(f"{line}\n")
    return BAD_CONFIGURATION


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking apart some thousand modules is most of what an exit would cost, and a pod that goes has a second for it.
    os._exit(code)
