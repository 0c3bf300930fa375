"""The cluster tool's command line: `python3 hack/cluster/main.py --help`. Needs Python 3.11 and nothing else."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# This folder is the package `cluster`; run as a script, Python looks for modules inside it instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster import binaries, images, layout, network_namespace, node, packages  # noqa: E402
from cluster.controlplane import ControlPlane  # noqa: E402
from cluster.progress import say  # noqa: E402
from cluster.trouble import Trouble  # noqa: E402


def main() -> int:
    """Run one command and return the exit status."""
    arguments = _parser().parse_args()
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except Trouble as trouble:
        say(f"error: {trouble}")
    except subprocess.CalledProcessError as failed:
        output = (failed.stderr or b"") if isinstance(failed.stderr, bytes) else (failed.stderr or "").encode()
        say(f"error: {' '.join(map(str, failed.cmd))} failed ({failed.returncode}) {output.decode(errors='replace')}")
    except OSError as denied:
        say(f"error: {denied}" + ("" if os.geteuid() == 0 else " (this is not root)"))
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hack/cluster/main.py", description="A local single-node Kubernetes.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    up = add("up", _up, "bring the node up, or repair it; safe to repeat")
    up.add_argument("--metrics", action="store_true", help="with metrics-server, which autoscalers need")
    up.add_argument("--gpus", type=int, metavar="N", help="have the node claim N GPUs")
    down = add("down", _down, "take the node and every trace of it away; caches stay")
    down.add_argument("--force", action="store_true", help="also when another checkout started it")
    killed = add("kill", _kill, "kill programs of the node at once, as a crash would; `up` starts them again")
    killed.add_argument("programs", nargs="+", help="names as `status` shows them")
    add("status", _status, "say who has the node and what runs")
    build = add("build", _build, "build the programs into the cache")
    build.add_argument("programs", nargs="*", help=f"of: {', '.join(binaries.PROGRAMS)}")
    built = add("images", _images, "build the images and push those that changed")
    built.add_argument("names", nargs="*", metavar="image", help=f"of: {', '.join(images.IMAGES)}")
    built.add_argument("--registry", default=os.environ.get("REGISTRY") or None, help="push there, not to the node")
    refs = add("image-refs", _image_refs, "print the exact reference of each image as JSON, building nothing")
    refs.add_argument("--registry", default=os.environ.get("REGISTRY") or None)
    enter = add("enter", _enter, "run a command, or a shell, in the node's network with KUBECONFIG set")
    enter.add_argument("arguments", nargs=argparse.REMAINDER)
    plane = add("control-plane", _control_plane, "run a control plane alone until Ctrl-C")
    plane.add_argument("--directory", type=Path, help="keep its files there (default: a temporary folder)")
    add("purge", _purge, "delete the caches; the node must be down")
    add("recycle-volumes", _recycle_volumes, "(run by the node) make released volumes available again")
    return parser


def _up(arguments: argparse.Namespace) -> int:
    node.up(with_metrics=arguments.metrics, gpus=arguments.gpus)
    say("the node is ready; hack/cluster/enter kubectl get pods -A")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    node.down(force=arguments.force)
    return 0


def _kill(arguments: argparse.Namespace) -> int:
    node.kill(*arguments.programs)
    return 0


def _status(_: argparse.Namespace) -> int:
    print(node.status())
    return 0 if node.is_up() else 1


def _build(arguments: argparse.Namespace) -> int:
    unknown = [name for name in arguments.programs if name not in binaries.PROGRAMS]
    if unknown:
        raise Trouble(f"no such program: {', '.join(unknown)}; there are {', '.join(binaries.PROGRAMS)}")
    for name, path in binaries.ensure(arguments.programs or binaries.NODE).items():
        print(f"{name}\t{path}")
    return 0


def _images(arguments: argparse.Namespace) -> int:
    print(images.publish(arguments.names or list(images.IMAGES), arguments.registry))
    return 0


def _image_refs(arguments: argparse.Namespace) -> int:
    print(images.references(arguments.registry))
    return 0


def _enter(arguments: argparse.Namespace) -> int:
    if not node.is_up():
        raise Trouble("no node is up: python3 hack/cluster/main.py up")
    given = arguments.arguments[1:] if arguments.arguments[:1] == ["--"] else arguments.arguments
    command = [*network_namespace.prefix(), *(given or [os.environ.get("SHELL", "/bin/sh")])]
    os.execvpe(command[0], command, {**os.environ, **node.environment()})  # noqa: S606 - becomes the command


def _control_plane(arguments: argparse.Namespace) -> int:
    packages.ensure(packages.BASE)
    binaries.ensure(binaries.CONTROL_PLANE)
    with (
        tempfile.TemporaryDirectory(prefix="llmservice-control-plane-") as temporary,
        ControlPlane(arguments.directory or Path(temporary)) as plane,
    ):
        say("ready; Ctrl-C ends it")
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        try:
            plane.wait_for_end("kube-apiserver")
        except KeyboardInterrupt:
            return 0
    raise Trouble("the API server ended by itself")


def _purge(_: argparse.Namespace) -> int:
    if node.is_up():
        raise Trouble("the node is up and uses the caches: python3 hack/cluster/main.py down")
    images.purge()
    say(f"deleted {layout.cache()}")
    return 0


def _recycle_volumes(_: argparse.Namespace) -> int:
    node.recycle_volumes()
    return 0


if __name__ == "__main__":
    sys.exit(main())
