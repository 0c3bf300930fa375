"""`make demo`, once the cluster stands and the images are built: install, apply six lines, ask the model.

Runs inside the cluster's network (`hack/cluster/enter`), or with a KUBECONFIG of one's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from demo import ask, install, watch
from demo.kubectl import Kubectl, KubectlError

NAMESPACE = "llmservice-demo"
QUICKSTART = install.REPOSITORY / "examples" / "quickstart.yaml"
REPOS = {"gemma": "google/gemma-3-270m", "tiny": install.TINY_REPO}
PROMPT = "The three primary colours are"
STREAMED_PROMPT = "Once upon a time, in a small village by the sea,"


def main() -> int:
    """Run the story, or take it off the cluster again."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("action", choices=["run", "clean"])
    parser.add_argument("--model", choices=sorted(REPOS), default="gemma")
    parser.add_argument("--images", type=Path, help="JSON file with the image references", required=False)
    # Inside our own cluster's network the Service's address can be called; elsewhere kubectl forwards a port.
    parser.add_argument("--forward", action="store_true", help="reach the Service through kubectl port-forward")
    options = parser.parse_args()
    kubectl = Kubectl(NAMESPACE)
    if options.action == "clean":
        install.uninstall(kubectl, NAMESPACE)
        return 0
    run(kubectl, install.Images.load(options.images), options.model, forward=options.forward)
    return 0


def run(kubectl: Kubectl, images: install.Images, model: str, *, forward: bool) -> None:
    """Install, apply the quickstart, wait, ask, and say what to try next."""
    say("Installing the operator and a model hub")
    install.install(kubectl, images)
    llmservice = yaml.safe_load(QUICKSTART.read_text())
    llmservice["spec"]["model"]["source"]["huggingFace"]["repo"] = REPOS[model]
    name = llmservice["metadata"]["name"]
    say(f"kubectl apply -f {QUICKSTART.relative_to(install.REPOSITORY)}")
    print(yaml.safe_dump(llmservice, sort_keys=False).strip(), flush=True)
    kubectl.apply(install.namespace(NAMESPACE))
    kubectl.apply(llmservice)
    say("Waiting until it is Ready")
    seconds = watch.until_ready(kubectl, name, timeout_seconds=600, say=_line)
    say(f"Ready after {seconds:.0f} s")
    print(kubectl.run("get", "llmservices").rstrip(), flush=True)
    with service_url(kubectl, name, forward=forward) as url:
        _ask(url)
    _next_steps(name, own_cluster=not forward)


def _ask(url: str) -> None:
    say(f"POST {url}/generate")
    answer = ask.answer(f"{url}/generate", {"text": PROMPT, "max_tokens": 32, "temperature": 0})
    text = answer["generated_text"]
    print(f"  {PROMPT}\033[1m{text}\033[0m" if sys.stdout.isatty() else f"  {PROMPT}{text}")
    print(f"  ({answer['usage']}, {answer['finish_reason']})", flush=True)
    say(f"POST {url}/v1/completions, streamed")
    model = ask.answer(f"{url}/v1/models")["data"][0]["id"]
    print(f"  {STREAMED_PROMPT}", end="", flush=True)
    body = {"model": model, "prompt": STREAMED_PROMPT, "max_tokens": 48, "temperature": 0.7, "seed": 7}
    for event in ask.stream(f"{url}/v1/completions", body):
        for choice in event["choices"]:
            print(choice["text"].replace("\n", "\n  "), end="", flush=True)
    print(flush=True)


@contextmanager
def service_url(kubectl: Kubectl, name: str, *, forward: bool) -> Iterator[str]:
    """Yield the base URL of the Service called `name`."""
    if forward:
        with kubectl.port_forward(f"service/{name}", 80) as url:
            yield url
        return
    service = kubectl.get("service", name)
    if service is None:
        raise KubectlError(f"there is no Service {name} in {kubectl.namespace}")
    yield f"http://{service['spec']['clusterIP']}"


def _next_steps(name: str, *, own_cluster: bool) -> None:
    say("What to try next")
    enter = "hack/cluster/enter " if own_cluster else ""
    for line in (
        f"{enter}kubectl -n {NAMESPACE} get llmservices -o wide",
        f"{enter}kubectl -n {NAMESPACE} describe llmservice {name}",
        f'{enter}kubectl -n {NAMESPACE} patch llmservice {name} --type merge -p \'{{"spec":{{"replicas":2}}}}\'',
        f"{enter}kubectl explain llmservice.spec",
        "make demo-clean",
    ):
        print(f"  {line}")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print a heading of the story."""
    print(f"\n==> {text}", flush=True)


def _line(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
