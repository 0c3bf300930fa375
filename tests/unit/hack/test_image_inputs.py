"""An image is named by what it is made of: nothing that matters is missed, nothing else counts."""

import subprocess
from pathlib import Path

import pytest

from cluster import image_inputs

DOCKERFILE = """\
# syntax is not looked at
ARG MODELS=build/models
FROM debian AS python
RUN apt-get update \\
 && apt-get install python3

FROM python AS build
COPY requirements/server.txt /tmp/
RUN --mount=type=bind,source=pyproject.toml,target=/p --mount=type=cache,target=/c pip install -r /tmp/server.txt

FROM python AS other
COPY ${MODELS} /models

FROM python AS server
COPY --from=build /opt /opt
COPY --chown=1:1 inference_server LICENSE /opt/
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {
        "requirements/server.txt": "torch",
        "pyproject.toml": "[project]",
        "inference_server/app.py": "print(1)",
        "inference_server/notes.log": "ignored",
        "operator/app.py": "print(2)",
        "LICENSE": "MIT",
        ".gitignore": "build/\n*.log\n",
        "build/models/weights": "0000",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def digest(checkout: Path, target: str = "server", **arguments: str) -> str:
    return image_inputs.digest(checkout, DOCKERFILE, target, arguments, "debian")


def test_a_target_needs_its_parents_and_the_stages_it_copies_from() -> None:
    found = image_inputs.needed(image_inputs.stages(DOCKERFILE), "server")
    assert [stage.name for stage in found] == ["python", "build", "server"]


def test_without_a_target_the_last_stage_counts() -> None:
    assert image_inputs.needed(image_inputs.stages(DOCKERFILE), None)[-1].name == "server"


def test_sources_are_those_copied_or_mounted_from_the_context() -> None:
    sources = {stage.name: stage.sources for stage in image_inputs.stages(DOCKERFILE)}
    assert sources == {
        "python": [],
        "build": ["requirements/server.txt", "pyproject.toml"],
        "other": ["build/models"],
        "server": ["inference_server", "LICENSE"],
    }


def test_an_argument_stands_in_for_its_default() -> None:
    found = image_inputs.stages(DOCKERFILE, {"MODELS": "elsewhere"})
    assert next(stage for stage in found if stage.name == "other").sources == ["elsewhere"]


def test_files_leave_out_what_git_ignores(checkout: Path) -> None:
    found = image_inputs.files(checkout, ["inference_server", "LICENSE"])
    assert [str(file.relative_to(checkout)) for file in found] == ["LICENSE", "inference_server/app.py"]


def test_a_source_that_git_ignores_as_a_whole_counts(checkout: Path) -> None:
    assert image_inputs.files(checkout, ["build/models"]) == [checkout / "build/models/weights"]


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        pytest.param("inference_server/app.py", True, id="code"),
        pytest.param("requirements/server.txt", True, id="a file of a stage that is copied from"),
        pytest.param("pyproject.toml", True, id="a mounted file"),
        pytest.param("operator/app.py", False, id="code of another image"),
        pytest.param("build/models/weights", False, id="a file of another target"),
        pytest.param("inference_server/notes.log", False, id="an ignored file"),
    ],
)
def test_the_digest_changes_with_what_the_image_holds(checkout: Path, changed: str, counts: bool) -> None:
    before = digest(checkout)
    (checkout / changed).write_text("changed")
    assert (digest(checkout) != before) is counts


def test_an_executable_bit_counts(checkout: Path) -> None:
    before = digest(checkout)
    (checkout / "LICENSE").chmod(0o755)
    assert digest(checkout) != before
