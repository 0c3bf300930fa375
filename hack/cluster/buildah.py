"""buildah with an image store of its own in the cache, away from another buildah's or podman's on the machine."""

import json
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster import build_runtime, layout, mounts, packages
from cluster.trouble import Trouble

_BUNDLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
_BUNDLE_INSIDE = "/run/build-machine/certificates.pem"
_INDEX_VARIABLES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_HTTP_TIMEOUT",
)


def store() -> Path:
    """Return the folder of the image store."""
    return layout.cache() / "images"


def _run_root() -> Path:
    """Return the folder of the store's run-time state, beside it so that two caches never share one."""
    return layout.cache() / "buildah" / "run"


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of one call."""
    return [
        str(packages.path_of("buildah")),
        "--root",
        str(store()),
        "--runroot",
        str(_run_root()),
        *map(str, arguments),
    ]


def environment() -> dict[str, str]:
    """Return the environment of every call: our own configuration instead of the user's, big files in the cache."""
    folder = layout.cache() / "buildah"
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    (folder / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
    return {
        **os.environ,
        "TMPDIR": str(temporary),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "STORAGE_DRIVER": "overlay",
        build_runtime.VARIABLES: json.dumps(_build_variables()),
        build_runtime.RUNC: str(packages.path_of("runc")),
    }


def _machine_bundle() -> Path | None:
    """Return the certificates with which this machine reaches its package index, when it says that it has some."""
    named = (os.environ[name] for name in _BUNDLES if os.environ.get(name))
    return next((Path(name).resolve() for name in named if Path(name).is_file()), None)


def build_options() -> list[str]:
    """Return what lets build steps reach the package index from this machine; no image keeps any of it."""
    options = ["--runtime", str(Path(__file__).with_name("build-runtime"))]
    bundle = _machine_bundle()
    # Beside the image's own certificates, which stay as they are.
    return [*options, "--volume", f"{bundle}:{_BUNDLE_INSIDE}:ro"] if bundle else options


def _build_variables() -> list[str]:
    passed = {name: os.environ[name] for name in _INDEX_VARIABLES if os.environ.get(name)}
    if _machine_bundle():
        passed |= dict.fromkeys(_BUNDLES, _BUNDLE_INSIDE)
    return [f"{name}={value}" for name, value in sorted(passed.items())]


def run(*arguments: str | Path, prefix: Sequence[str] = (), timeout_seconds: float | None = None) -> str:
    """Run one call and return what it prints.

    Raises:
        Trouble: it failed; the message ends with what it wrote last.
    """
    full = [*prefix, *command(*arguments)]
    try:
        ran = subprocess.run(
            full, env=environment(), capture_output=True, text=True, check=False, timeout=timeout_seconds
        )
    except subprocess.TimeoutExpired as late:
        raise Trouble(f"buildah {arguments[0]} took longer than {timeout_seconds:.0f} s") from late
    if ran.returncode != 0:
        raise Trouble(f"buildah {' '.join(map(str, arguments))} failed:\n{(ran.stdout + ran.stderr)[-4000:]}")
    return ran.stdout


def build(*arguments: str | Path, note: Callable[[str], None]) -> None:
    """Build an image, telling `note` each instruction of the Dockerfile as it begins.

    Raises:
        Trouble: it failed; the message ends with what the failed instruction wrote.
    """
    last: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        command("bud", *build_options(), *arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as building:
        assert building.stdout is not None
        for line in building.stdout:
            last.append(line)
            if "STEP " in line:
                note(line.strip()[:100])
    if building.returncode != 0:
        raise Trouble(f"the build failed:\n{''.join(last)}")


def has(name: str) -> bool:
    """Tell whether the store has the image `name`."""
    try:
        run("inspect", "--type", "image", "--format", "{{.FromImageID}}", name)
    except Trouble:
        return False
    return True


def clean_up() -> None:
    """Take away what buildah leaves behind: an interrupted build's containers, mounts, run-time state.

    Only for a caller that keeps other builds away meanwhile.
    """
    run("rm", "--all")
    mounts.unmount([store(), _run_root()])
    shutil.rmtree(_run_root(), ignore_errors=True)
