"""What an image is made of: the Dockerfile's instructions for one target and the files they copy from the context.

The hash of both names the image, so an unchanged image is neither built nor pushed, and a pod template that uses the
hash as its tag rolls exactly when the code in it changed.
"""

import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Above this, size and time of change stand for the content: model weights need not be read at every run.
_READ_BELOW_BYTES = 16 * 2**20


@dataclass
class Stage:
    """One stage of a Dockerfile: what it starts from, the stages it copies from, and its context sources."""

    name: str
    parent: str
    instructions: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def instructions(dockerfile: str) -> Iterator[str]:
    """Yield a Dockerfile's instructions, continuation lines joined and comments left out."""
    kept = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(kept))
    yield from (" ".join(line.split()) for line in joined.splitlines() if line.strip())


def stages(dockerfile: str, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Return the stages of a Dockerfile in order, with `arguments` in place of its ARG defaults."""
    values: dict[str, str] = {}
    found: list[Stage] = []
    for instruction in instructions(dockerfile):
        word, _, rest = instruction.partition(" ")
        word = word.upper()
        if word == "ARG":
            name, _, default = rest.partition("=")
            values[name] = (arguments or {}).get(name, default.strip("\"'"))
        rest = _substituted(rest, values)
        if word == "FROM":
            parts = [part for part in rest.split() if not part.startswith("--")]
            name = parts[2] if len(parts) == 3 else str(len(found))
            found.append(Stage(name, parts[0]))
        if found:
            found[-1].instructions.append(f"{word} {rest}")
            _note_copies(found[-1], word, rest)
    return found


def _substituted(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], match[0]), text)


def _note_copies(stage: Stage, word: str, rest: str) -> None:
    if word in {"COPY", "ADD"}:
        paths = [part for part in re.sub(r'[\[\],"]', " ", rest).split() if not part.startswith("--")]
        from_stage = re.search(r"--from=(\S+)", rest)
        if from_stage is None:
            stage.sources.extend(paths[:-1])
        else:
            stage.stages.append(from_stage[1])
    for mount in re.findall(r"--mount=(\S*type=bind\S*)", rest) if word == "RUN" else []:
        options: dict[str, str] = dict(option.partition("=")[::2] for option in mount.split(","))
        if "from" in options:
            stage.stages.append(options["from"])
        else:
            stage.sources.append(options.get("source", options.get("src", ".")))


def needed(found: list[Stage], target: str | None) -> list[Stage]:
    """Return the stages that `target`, or without one the last stage, is built from, itself included."""
    by_name = {stage.name: stage for stage in found} | {str(number): stage for number, stage in enumerate(found)}
    wanted: list[Stage] = []
    open_names = [target if target is not None else found[-1].name]
    while open_names:
        stage = by_name.get(open_names.pop())
        if stage is not None and stage not in wanted:
            wanted.append(stage)
            open_names += [stage.parent, *stage.stages]
    return [stage for stage in found if stage in wanted]


def files(context: Path, sources: Iterable[str]) -> list[Path]:
    """Return the files of the context that `sources` (paths or patterns) stand for, without what git ignores.

    A source that git ignores as a whole, as a folder of downloaded models is, counts with all its files.
    """
    found: set[Path] = set()
    for source in sources:
        pattern = source.strip("/").removeprefix("./") or "."
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", f":(glob){pattern}", pattern],
            cwd=context,
            capture_output=True,
            text=True,
            check=False,
        )
        names = [context / name for name in listed.stdout.split("\0") if name]
        if not names:
            matches = [context] if pattern == "." else list(context.glob(pattern))
            names = [file for match in matches for file in ([match] if match.is_file() else match.rglob("*"))]
        found.update(name for name in names if name.is_file() and "__pycache__" not in name.parts)
    return sorted(found)


def digest(context: Path, dockerfile: str, target: str | None, arguments: Mapping[str, str], base: str) -> str:
    """Return the hash of everything that decides what the image holds, the identity of its base image included."""
    wanted = needed(stages(dockerfile, arguments), target)
    summed = hashlib.sha256(f"{base}\n{sorted(arguments.items())}\n".encode())
    for stage in wanted:
        summed.update("\n".join(stage.instructions).encode())
    for file in files(context, [source for stage in wanted for source in stage.sources]):
        stat = file.stat()
        summed.update(f"\0{file.relative_to(context)}\0{stat.st_mode & 0o111}\0".encode())
        if stat.st_size < _READ_BELOW_BYTES:
            summed.update(file.read_bytes())
        else:
            summed.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return summed.hexdigest()[:16]
