"""Builds the project's images and brings them to the registry and, ahead of the first pod, to the node."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cluster import base_image, buildah, image_inputs, layout, network_namespace, node, packages, runtime
from cluster.lock import exclusive
from cluster.progress import say, step
from cluster.trouble import Trouble


@dataclass(frozen=True)
class Image:
    """One image: its Dockerfile and target; `arguments` stand in for ARG defaults."""

    name: str
    dockerfile: str
    target: str | None = None
    arguments: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the hash of the image's inputs, its tag besides `dev`.

        Raises:
            Trouble: there is no such Dockerfile.
        """
        path = layout.CHECKOUT / self.dockerfile
        if not path.exists():
            raise Trouble(f"cannot build the image {self.name}: there is no {self.dockerfile}")
        return image_inputs.digest(layout.CHECKOUT, path.read_text(), self.target, self.arguments, base_image.NAME)

    def reference(self, registry: str, tag: str) -> str:
        """Return the image's full name in `registry`."""
        return f"{registry}/llmservice-{self.name}:{tag}"


IMAGES = {
    image.name: image
    for image in (
        Image("operator", "Dockerfile.operator"),
        Image("gateway", "Dockerfile.server", target="gateway"),
        Image("server", "Dockerfile.server", target="server"),
        Image("hub", "tests/support/hub/Dockerfile"),
    )
}


def publish(names: list[str], registry: str | None = None) -> str:
    """Build those of `names` whose inputs changed, push them, pull them to the node; return their references as JSON.

    Without `registry` they go to the node's own, which must be up.

    Raises:
        Trouble: an unknown name, no node, or a build or push that failed.
    """
    unknown = [name for name in names if name not in IMAGES]
    if unknown:
        raise Trouble(f"no such image: {', '.join(unknown)}; there are {', '.join(IMAGES)}")
    if registry is None and not node.is_up():
        raise Trouble("the images go to the node's registry, and no node is up: run `up` first, or set REGISTRY")
    packages.ensure(packages.IMAGES)
    with exclusive(layout.cache() / "images.lock", "it builds images"):
        try:
            return json.dumps({name: _publish(IMAGES[name], registry) for name in names})
        finally:
            buildah.clean_up()


def references(registry: str | None = None) -> str:
    """Return, as JSON by name, the exact reference that each image would get from the files as they are now."""
    at = registry or runtime.REGISTRY
    return json.dumps({image.name: image.reference(at, image.digest()) for image in IMAGES.values()})


def _publish(image: Image, registry: str | None) -> str:
    digest = image.digest()
    tags = [image.reference(registry or runtime.REGISTRY, tag) for tag in (digest, "dev")]
    if registry is None and _manifest(image, digest) and _manifest(image, digest) == _manifest(image, "dev"):
        say(f"image {image.name}: unchanged ({digest})")
    else:
        _build(image, tags)
        _push(tags, registry)
    if registry is None:
        _pull(tags)
    return tags[0]


def _build(image: Image, tags: list[str]) -> None:
    base_image.ensure()
    options = ["--layers", "--isolation", "oci", "--network", "host"]
    options += ["--force-rm", "--pull=false", "--format", "docker", "--file", str(layout.CHECKOUT / image.dockerfile)]
    options += ["--target", image.target] if image.target else []
    for name, value in image.arguments.items():
        options += ["--build-arg", f"{name}={value}"]
    for tag in tags:
        options += ["--tag", tag]
    with step(f"building the image {image.name}") as building:
        buildah.build(*options, layout.CHECKOUT, note=lambda line: setattr(building, "detail", line))


def _push(tags: list[str], registry: str | None) -> None:
    # A registry of the machine itself speaks plain HTTP; the level trades a little size for most of the time.
    local = registry is None or registry.startswith(("localhost", "127.0.0.1"))
    options = ["--quiet", "--compression-format", "gzip", "--compression-level", "1"]
    options += ["--tls-verify=false"] if local else []
    prefix = network_namespace.prefix() if registry is None else ()
    for tag in tags:
        with step(f"pushing {tag}"):
            buildah.run("push", *options, tag, f"docker://{tag}", prefix=prefix)


def _manifest(image: Image, tag: str) -> str | None:
    """Return the digest that `tag` has in the node's registry."""
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    url = f"http://{runtime.REGISTRY}/v2/llmservice-{image.name}/manifests/{tag}"
    asked = [*network_namespace.prefix(), "curl", "--silent", "--fail", "--head", "--max-time", "5"]
    ran = subprocess.run([*asked, "--header", f"Accept: {accept}", url], capture_output=True, text=True, check=False)
    headers = dict(line.lower().split(": ", 1) for line in ran.stdout.splitlines() if ": " in line)
    return headers.get("docker-content-digest") if ran.returncode == 0 else None


def _pull(tags: list[str]) -> None:
    exact, moving = tags
    if exact not in runtime.ctr("images", "list", "--quiet").split():
        with step(f"pulling {exact} to the node"):
            runtime.pull(exact)
            runtime.ctr("images", "tag", "--force", exact, moving)


def purge() -> None:
    """Delete the cache, image stores included."""
    if packages.find("buildah"):
        buildah.clean_up()
    shutil.rmtree(layout.cache(), ignore_errors=True)
    left = layout.cache()
    if left.exists() and any(Path(left).iterdir()):
        raise Trouble(f"could not delete all of {left}")
