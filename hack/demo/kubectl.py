"""kubectl as a value: the demo and the end-to-end tests drive a cluster with the tool that its users hold."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

Manifest = dict[str, Any]


class KubectlError(RuntimeError):
    """kubectl exited with an error; the message is what it said."""


class DeadlineError(AssertionError):
    """A condition did not come true in time."""


@dataclass(frozen=True)
class Kubectl:
    """Run kubectl in one namespace, with the KUBECONFIG of the environment."""

    namespace: str = "default"

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 180) -> str:
        """Return what kubectl prints.

        Raises:
            KubectlError: it exited with another status than 0.
        """
        done = self.attempt(*arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def attempt(
        self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 180
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return exit status and both outputs, whatever they are."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )

    def apply(self, *manifests: Manifest) -> str:
        """Apply manifests as `kubectl apply --server-side` does, each in its own namespace or in this one."""
        said = ""
        for namespace, group in itertools.groupby(manifests, lambda m: m["metadata"].get("namespace", self.namespace)):
            text = yaml.safe_dump_all(group, sort_keys=False)
            arguments = ("apply", "--server-side", "--force-conflicts", "-f", "-")
            said += self.in_namespace(namespace).run(*arguments, stdin=text)
        return said

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return one object, or None when there is none of that name."""
        text = self.run("get", kind, name, "--ignore-not-found", "-o", "json")
        found: Manifest | None = json.loads(text) if text.strip() else None
        return found

    def list(self, kind: str, selector: str = "") -> list[Manifest]:
        """Return the objects of one kind in the namespace."""
        chosen = ("--selector", selector) if selector else ()
        items: list[Manifest] = json.loads(self.run("get", kind, *chosen, "-o", "json"))["items"]
        return items

    def delete(self, kind: str, name: str, *, wait: bool = True) -> None:
        """Delete one object if it is there."""
        self.run("delete", kind, name, "--ignore-not-found", f"--wait={str(wait).lower()}")

    def in_namespace(self, namespace: str) -> Kubectl:
        """Return the same kubectl for another namespace."""
        return Kubectl(namespace)

    @contextmanager
    def port_forward(self, target: str, port: int) -> Iterator[str]:
        """Forward a free loopback port to `target`; yields the base URL."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if "Forwarding from" not in line:
                    raise KubectlError(f"kubectl port-forward {target}: {line.strip()}")
                yield "http://" + line.split("Forwarding from ")[1].split(" ")[0]
            finally:
                process.terminate()


def condition(manifest: Manifest | None, condition_type: str) -> Manifest:
    """Return one status condition, or an empty dict when it is absent."""
    for entry in ((manifest or {}).get("status") or {}).get("conditions") or []:
        if entry["type"] == condition_type:
            found: Manifest = entry
            return found
    return {}


def wait_for(question: Callable[[], Any], *, seconds: float, what: str, every_seconds: float = 0.2) -> Any:
    """Ask until the answer is truthy and return it.

    Raises:
        DeadlineError: it was not within `seconds`; the message holds the last answer.
    """
    deadline = time.monotonic() + seconds
    answer: Any = None
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(every_seconds)
    raise DeadlineError(f"not within {seconds} s: {what} (last answer: {answer!r})")
