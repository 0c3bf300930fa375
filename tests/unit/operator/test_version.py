"""The version stands in two places; this keeps them equal."""

import tomllib
from pathlib import Path

from llmservice_operator import version

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_operator_has_the_version_of_the_project() -> None:
    assert tomllib.loads(PYPROJECT.read_text())["project"]["version"] == version.VERSION
