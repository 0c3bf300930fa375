"""Every command of the README is run here as it stands there, so that a newcomer can trust it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from demo import __main__ as demo
from demo import install
from demo.kubectl import Kubectl
from demo.watch import until_ready
from tests.e2e.conftest import reach

README = (install.REPOSITORY / "README.md").read_text()
COMMANDS = [
    command
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for command in block.replace("\\\n", " ").strip().splitlines()
]


def starting_with(*words: str) -> list[list[str]]:
    """Return the README's commands that begin with `words`, split as a shell splits them."""
    split = [shlex.split(command) for command in COMMANDS]
    return [command for command in split if command[: len(words)] == list(words)]


def test_the_first_yaml_of_the_readme_is_the_quickstart() -> None:
    block = re.search(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert block is not None
    assert yaml.safe_load(block[1]) == yaml.safe_load(demo.QUICKSTART.read_text())


def test_this_file_knows_every_command() -> None:
    tested = [
        *starting_with("make"),
        *starting_with("kubectl", "apply", "-f"),
        *starting_with("kubectl", "get"),
        *starting_with("curl"),
        # Strictly, and once for each variant, in tests/cluster/test_api_install.py.
        *starting_with("kubectl", "apply", "-k"),
    ]
    assert len(tested) == len(COMMANDS)


@pytest.mark.parametrize("command", starting_with("make"), ids=" ".join)
def test_the_make_targets_exist(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "--dry-run"], cwd=install.REPOSITORY, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(180)
def test_apply_get_and_curl_work_as_written(kubectl: Kubectl, tmp_path: Path) -> None:
    (apply,) = starting_with("kubectl", "apply", "-f")
    (get,) = starting_with("kubectl", "get")
    (curl,) = starting_with("curl")
    # The tests' hub may have no Gemma, which is a download; everything else is as written.
    llmservice = yaml.safe_load((install.REPOSITORY / apply[-1]).read_text())
    llmservice["spec"]["model"]["source"]["huggingFace"]["repo"] = install.TINY_REPO
    copy = tmp_path / "quickstart.yaml"
    copy.write_text(yaml.safe_dump(llmservice))

    kubectl.run(*apply[1:-1], str(copy))
    until_ready(kubectl, llmservice["metadata"]["name"], timeout_seconds=120, say=lambda _: None)
    table = kubectl.run(*get[1:]).splitlines()
    documented = re.search(r"^```\n(NAME .*?)\n", README, re.MULTILINE)
    assert documented is not None
    assert table[0].split() == documented[1].split()
    with reach(kubectl, llmservice["metadata"]["name"]) as url:
        # As from a pod of the namespace, where the Service's name is a host.
        host, _, port = url.removeprefix("http://").partition(":")
        address = f"{llmservice['metadata']['name']}:80:{host}:{port or 80}"
        done = subprocess.run(
            [*curl, "--silent", "--fail-with-body", "--connect-to", address],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "generated_text" in done.stdout
