"""Read a model's files out of a tar or zip archive, in which names, sizes and kinds of entries are anybody's.

Only what the listing asks for is unpacked, into files that we name: an archive cannot write anywhere else.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from inference_server.cache.failures import WarmupFailure
from inference_server.cache.growing_file import GrowingFile
from inference_server.cache.listing import FILES_LIMIT, RemoteFile, check_name

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
BROKEN = (tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
"""What the readers raise for archives that are none, are cut off, or are compressed in a way they do not know."""
ENCRYPTED = 0x1
"""In the flags of an entry of a zip archive."""
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One entry as the archive has it, folders left out."""

    name: str
    size: int
    position: int
    is_plain: bool
    """A file that can be read: no link, no device, not encrypted."""


class Format(Protocol):
    """An opened archive of one format."""

    def entries(self) -> Iterator[Entry]: ...
    def read(self, name: str) -> IO[bytes]: ...


class Archive:
    """The model in an opened archive: the files of the folder that has its config.json."""

    def __init__(self, format_: Format, name: str, limit_bytes: int) -> None:
        self._format, self._name = format_, name
        with _reading(name):
            entries = _judged(format_.entries(), name, limit_bytes)
        folder = _model_folder(entries, name)
        self._entries = {path[len(folder) :]: entry for path, entry in entries.items() if path.startswith(folder)}

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return tuple(RemoteFile(name, entry.size, position=entry.position) for name, entry in self._entries.items())

    def unpack(self, file: RemoteFile, target: GrowingFile) -> None:
        """Write one file into `target`, from its beginning."""
        target.restart()
        with _reading(self._name), self._format.read(self._entries[file.name].name) as content:
            shutil.copyfileobj(content, target, BLOCK_BYTES)


@contextmanager
def opened(path: Path, name: str, limit_bytes: int) -> Iterator[Archive]:
    """Open the archive at `path`, which messages call `name`, and judge what it lists.

    Raises:
        WarmupFailure: it is no archive, unpacks to more than `limit_bytes`, or holds what no model needs.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        with _reading(name):
            format_ = _format(file, stack)
        yield Archive(format_, name, limit_bytes)


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def entries(self) -> Iterator[Entry]:
        for member in self._tar:
            if not member.isdir():
                yield Entry(member.name, member.size, member.offset_data, member.isfile())

    def read(self, name: str) -> IO[bytes]:
        content = self._tar.extractfile(name)
        assert content is not None, "only files are asked for"
        return content


class _Zip:
    def __init__(self, zipped: zipfile.ZipFile) -> None:
        self._zipped = zipped

    def entries(self) -> Iterator[Entry]:
        for info in self._zipped.infolist():
            # Archives made elsewhere than on Unix say nothing of a kind.
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_plain = kind in (0, stat.S_IFREG) and not info.flag_bits & ENCRYPTED
            if not info.is_dir():
                yield Entry(info.filename, info.file_size, info.header_offset, is_plain)

    def read(self, name: str) -> IO[bytes]:
        return self._zipped.open(name)


def _format(file: BinaryIO, stack: ExitStack) -> Format:
    """Open an archive by its first bytes: a URL need not end like a file's name."""
    start = file.read(len(ZIP))
    file.seek(0)
    if start == ZIP:
        return _Zip(stack.enter_context(zipfile.ZipFile(file)))
    mode = "r:gz" if start.startswith(GZIP) else "r:"
    return _Tar(stack.enter_context(tarfile.open(fileobj=file, mode=mode)))  # type: ignore[call-overload]  # both are modes


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        text = f"name a whole archive, tar, tar.gz or zip: {name} cannot be read ({error})"
        raise WarmupFailure("ModelInvalid", text) from error


def _judged(entries: Iterable[Entry], name: str, limit_bytes: int) -> dict[str, Entry]:
    """Return the entries by name, refusing the archive as soon as one cannot be: what follows is not even read."""
    found: dict[str, Entry] = {}
    size = 0
    for entry in entries:
        path = entry.name.removeprefix("./")
        check_name(path)
        if not entry.is_plain:
            text = f"archive plain files (tar --dereference): {path!r} of {name} is a link, a device or encrypted"
            raise WarmupFailure("UnsafeFiles", text)
        if path in found:
            raise WarmupFailure("ModelInvalid", f"archive each file once: {path!r} is in {name} twice")
        found[path] = entry
        size += entry.size
        if len(found) > FILES_LIMIT:
            raise WarmupFailure("ModelInvalid", f"archive the model alone: {name} has more than {FILES_LIMIT} files")
        if size > limit_bytes:
            text = f"enlarge the cache, or archive the model alone: {name} unpacks to more than the whole volume"
            raise WarmupFailure("CacheFull", text)
    return found


def _model_folder(paths: Iterable[str], name: str) -> str:
    """Return the beginning of the names of the model's files: where its config.json lies, however deep that is."""
    configs = sorted((path for path in paths if f"/{path}".endswith("/config.json")), key=lambda path: path.count("/"))
    if not configs:
        return ""
    if len(configs) > 1 and configs[0].count("/") == configs[1].count("/"):
        text = f"archive one model: {name} has {configs[0]!r} and {configs[1]!r}"
        raise WarmupFailure("ModelInvalid", text)
    return configs[0].removesuffix("config.json")
