"""`python -m inference_server warmup`: resolve, download, verify, quantize, and say what is there.

The verdict goes into the termination message, progress to the management port. Run again, it finds what is there and
says so without importing torch; run twice at once, the second waits for the first.
"""

from __future__ import annotations

import shutil
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import structlog

from inference_server import termination
from inference_server.cache import quantization, sources, volume
from inference_server.cache.download import fetch, remove_code
from inference_server.cache.failures import WarmupFailure
from inference_server.cache.listing import Listing, metadata_files, weight_files
from inference_server.cache.progress import Reporter
from inference_server.cache.remote import Remote
from inference_server.cache.sweep import sweep
from inference_server.cache.volume import Manifest, Occupancy
from inference_server.checkpoint.digest import digest_of
from inference_server.checkpoint.shape import ModelShape, model_shape
from inference_server.checkpoint.validation import (
    INDEX,
    CheckpointProblem,
    Method,
    check_weights,
    effective_quantization,
    own_quantization,
    read_config,
    read_weight_map,
)
from inference_server.settings import ConfigurationError, Settings
from inference_server.state import ServedModel, ServerState

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What is in the cache now; `path` is what serving pods load, relative to the root of the volume."""

    outcome: Literal["Downloaded", "AlreadyPresent"]
    commit: str
    digest: str
    path: str
    quantization: Method
    bytes: int
    shape: ModelShape | None
    """Of the source, however it is quantized here; None where its config calls its sizes otherwise than we know."""


def run(settings: Settings) -> int:
    """Run the warm-up with its management port, write the termination message and return the exit code."""
    from inference_server.management import in_background
    from inference_server.metrics import Metrics

    signal.signal(signal.SIGTERM, _terminate)
    state = ServerState(model=ServedModel(ref=settings.hub_repo or settings.model_name))
    try:
        with in_background(state, Metrics(), settings.host, settings.management_port):
            return finish(settings, state)
    except OSError as error:
        raise ConfigurationError(f"LLMSERVICE_MANAGEMENT_PORT: {error}") from error


def finish(settings: Settings, state: ServerState) -> int:
    """Run the warm-up, write the termination message and return the exit code."""
    try:
        verdict = warm_up(settings, Reporter(state))
    except WarmupFailure as failure:
        state.fail(failure.reason, str(failure))
        logger.error("warm-up failed", reason=failure.reason, error=str(failure))  # noqa: TRY400 - the reason is the news
        termination.write_failure(failure.reason, str(failure))
        return failure.exit_code
    except Exception as error:
        logger.exception("warm-up failed")
        unexpected = WarmupFailure("WarmupFailed", f"see the log of the warm-up: {type(error).__name__}")
        termination.write_failure(unexpected.reason, str(unexpected))
        return unexpected.exit_code
    logger.info("warm-up finished", **vars(verdict))
    termination.write_verdict(asdict(verdict))
    return 0


def warm_up(settings: Settings, reporter: Reporter) -> Verdict:
    """Fill the cache.

    Raises:
        WarmupFailure: it cannot be filled.
    """
    root, remote = settings.cache_dir, sources.remote(settings)
    commit = remote.commit()
    reporter.model(ref=remote.name, revision=commit)
    raw = remote.folder(root) / commit
    with volume.occupied(root) as occupancy:
        if settings.cache_keep is None:
            volume.mark_shared(root)
        try:
            return _filled(settings, remote, raw, reporter)
        except WarmupFailure as failure:
            if failure.reason != "CacheFull" or not _made_room(settings, raw, occupancy):
                raise
        return _filled(settings, remote, raw, reporter)


def _filled(settings: Settings, remote: Remote, raw: Path, reporter: Reporter) -> Verdict:
    """Bring what is missing, unless it is all there."""
    root = settings.cache_dir
    if present := _present(settings, raw):
        return present
    with volume.writing(root), volume.locked(raw.parent, lambda: reporter.waiting(volume.partial_folder(raw))):
        # Whoever held the lock may have done it all.
        if present := _present(settings, raw):
            return present
        downloaded = volume.read_manifest(raw)
        if downloaded is None:
            with remote.opened(raw, reporter) as listing:
                downloaded = download(settings, remote, listing, raw, reporter)
        return _quantized(settings, raw, downloaded, reporter)


def _made_room(settings: Settings, raw: Path, occupancy: Occupancy) -> bool:
    """Remove what nobody needs; return whether there was any. What a shared volume holds, others may need."""
    if settings.cache_keep is None:
        return False
    with volume.writing(settings.cache_dir), occupancy.alone() as is_alone:
        return is_alone and sweep(settings.cache_dir, settings.kept, filling=raw) > 0


def download(settings: Settings, remote: Remote, listing: Listing, raw: Path, reporter: Reporter) -> Manifest:
    """Bring the commit into `raw`, refusing as early as the facts allow."""
    partial = volume.partial_folder(raw)
    metadata = metadata_files(listing)
    reporter.downloading(sum(file.size for file in listing.files if file.name.endswith(".safetensors")))
    sha256 = fetch(remote, listing, metadata, partial, reporter.bytes_done)
    try:
        config = read_config(partial)
        method = effective_quantization(config, settings.wanted_quantization)
        shards = list(read_weight_map(partial).values()) if (partial / INDEX).is_file() else None
        weights = weight_files(listing, shards)
        raw_bytes = sum(file.size for file in weights)
        quantized = quantization.expected_size(config, raw_bytes, method) if method != own_quantization(config) else 0
        present = volume.folder_size(partial)
        parts = f"{listing.repo} with {raw_bytes} bytes of weights"
        missing_bytes = max(0, raw_bytes - present) + max(0, quantized - listing.passing_bytes)
        volume.check_space(settings.cache_dir, missing_bytes, parts)
        reporter.downloading(raw_bytes)

        def left() -> int:
            return max(0, raw_bytes - volume.folder_size(partial)) + quantized

        with volume.filling(settings.cache_dir, left, parts):
            sha256 |= fetch(remote, listing, weights, partial, reporter.bytes_done)
        check_weights(partial)
        remove_code(partial)
        return volume.publish(raw, listing.commit, digest_of(sha256), own_quantization(config))
    except CheckpointProblem as problem:
        raise WarmupFailure(problem.reason, str(problem)) from problem


def _present(settings: Settings, raw: Path) -> Verdict | None:
    """Return the verdict when everything is there already, from the manifests alone."""
    manifest = volume.read_manifest(raw)
    if manifest is None:
        return None
    method = _method(settings, raw)
    if method == manifest.quantization:
        return _verdict("AlreadyPresent", settings, raw, raw, manifest)
    folder = _quantized_folder(settings, raw, method)
    quantized = volume.read_manifest(folder)
    return _verdict("AlreadyPresent", settings, raw, folder, quantized) if quantized else None


def _quantized(settings: Settings, raw: Path, downloaded: Manifest, reporter: Reporter) -> Verdict:
    """Quantize what was downloaded, unless it is to be served as it is."""
    method = _method(settings, raw)
    if method == downloaded.quantization:
        return _verdict("Downloaded", settings, raw, raw, downloaded)
    folder = _quantized_folder(settings, raw, method)
    partial = volume.partial_folder(folder)
    reporter.quantizing()
    options = quantization.settings_of(method, settings.compute_dtype, settings.double_quant)
    raw_bytes = sum(size for name, size in downloaded.sizes.items() if name.endswith(".safetensors"))
    expected = quantization.expected_size(read_config(raw), raw_bytes, method)
    parts = f"{settings.model_name} quantized to {method}"
    # What an earlier try left cannot be taken up again.
    shutil.rmtree(partial, ignore_errors=True)
    volume.check_space(settings.cache_dir, expected, parts)

    def left() -> int:
        # What it comes to is an estimate: where that was too low, a little more.
        return max(expected // 10, expected - volume.folder_size(partial))

    try:
        with volume.filling(settings.cache_dir, left, parts):
            quantization.quantize(raw, partial, options, reporter.quantized)
    except (WarmupFailure, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    manifest = volume.publish(folder, downloaded.commit, downloaded.digest, method)
    return _verdict("Downloaded", settings, raw, folder, manifest)


def _method(settings: Settings, raw: Path) -> Method:
    try:
        return effective_quantization(read_config(raw), settings.wanted_quantization)
    except CheckpointProblem as problem:
        raise WarmupFailure(problem.reason, str(problem)) from problem


def _quantized_folder(settings: Settings, raw: Path, method: Method) -> Path:
    options = quantization.settings_of(method, settings.compute_dtype, settings.double_quant)
    return volume.quantized_folder(settings.cache_dir, raw.parent, raw.name, options)


def _verdict(
    outcome: Literal["Downloaded", "AlreadyPresent"], settings: Settings, raw: Path, folder: Path, manifest: Manifest
) -> Verdict:
    try:
        shape = model_shape(raw)
    except CheckpointProblem as problem:
        raise WarmupFailure(problem.reason, str(problem)) from problem
    return Verdict(
        outcome=outcome,
        commit=manifest.commit,
        digest=manifest.digest,
        path=folder.relative_to(settings.cache_dir).as_posix(),
        quantization=manifest.quantization,  # type: ignore[arg-type]  # as publish() was given it
        bytes=manifest.size,
        shape=shape,
    )


def _terminate(*_: Any) -> NoReturn:
    # As process 1 of a container, nothing but this ends us on SIGTERM; what is partial is taken up by the next try.
    sys.exit(128 + signal.SIGTERM)
