"""Light modules stay light: each is imported in a fresh process, which then looks for what it must not have loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "bitsandbytes", "accelerate", "safetensors", "huggingface_hub")
OPERATOR_NEVER = (*HEAVY, "fastapi", "starlette", "uvicorn", "inference_server")
SERVER_LIGHT = ("", "settings", "state", "termination", "logging", "metrics", "rate", "management", "serve", "__main__")
SERVER_LIGHT_PACKAGES = ("web", "text")
ENGINE_LIGHT = (
    *("interface", "protocol", "process", "client", "watchdog", "fake", "__main__"),
    *("scheduler", "prefix_cache", "pace", "torch_setup", "model_engine"),
)
MODELS_LIGHT = ("model", "context")


def modules_in(folder: Path, package: str) -> list[str]:
    """Return every module below `folder` by its dotted name."""
    files = sorted(folder.rglob("*.py"))
    names = [".".join((package, *file.relative_to(folder).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def server_modules() -> list[str]:
    """Return the modules of the server that must work without torch."""
    names = [f"inference_server.{name}".removesuffix(".") for name in SERVER_LIGHT]
    names += [f"inference_server.engine.{name}" for name in ENGINE_LIGHT]
    names += [f"inference_server.models.{name}" for name in MODELS_LIGHT]
    for package in SERVER_LIGHT_PACKAGES:
        names += modules_in(ROOT / "inference_server" / package, f"inference_server.{package}")
    # The tokenizers library brings huggingface_hub's name with it, never torch; only the server image has it.
    return [name for name in names if name != "inference_server.text.hub"]


def loaded_by(modules: list[str], forbidden: tuple[str, ...]) -> str:
    """Import `modules` in one fresh process after another import check each; return what they loaded of `forbidden`."""
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    found = [heavy for heavy in {forbidden!r} if heavy in sys.modules]\n"
        "    if found: print(name, 'loads', *found); break\n"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_the_server_without_its_engine_loads_neither_torch_nor_a_model_library() -> None:
    assert loaded_by(server_modules(), HEAVY) == ""


def test_the_tokenizer_of_real_models_does_not_load_torch() -> None:
    assert loaded_by(["inference_server.text.hub"], ("torch", "transformers")) == ""


def test_the_operator_loads_no_torch_no_web_framework_and_nothing_of_the_server() -> None:
    modules = modules_in(ROOT / "operator" / "llmservice_operator", "llmservice_operator")
    assert loaded_by(modules, OPERATOR_NEVER) == ""


@pytest.mark.parametrize("module", ["inference_server.serve", "inference_server.engine.fake", "llmservice_operator"])
def test_each_starting_point_is_light_on_its_own(module: str) -> None:
    assert loaded_by([module], HEAVY) == ""
