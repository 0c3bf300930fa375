"""A cache folder and the way to warm it up in this process, for tests of every source."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference_server.cache.warmup import finish
from inference_server.settings import Settings
from inference_server.state import ServerState


@dataclass
class Cache:
    """An empty cache below `root`; `given` are the settings of every warm-up.

    Without quantization, so that nothing imports torch.
    """

    root: Path
    given: dict[str, Any]
    state: ServerState = field(default_factory=ServerState)

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def folder(self) -> Path:
        return self.root / "cache"

    @property
    def message(self) -> Path:
        """Where LLMSERVICE_TERMINATION_LOG must point."""
        return self.root / "message"

    def warm_up(self, **settings: Any) -> int:
        """Run a warm-up; its termination message is in `said` afterwards."""
        given = {"cache_dir": self.folder, "quantization": "none", **self.given}
        return finish(Settings(**{**given, **settings}), self.state)

    @property
    def said(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.message.read_text())
        return content

    def fails(self, **settings: Any) -> tuple[int, str, str]:
        """Run a warm-up that fails; returns exit code, reason and message."""
        code = self.warm_up(**settings)
        failure = self.said["failure"]
        return code, failure["reason"], failure["message"]

    def served(self) -> Path:
        """Return the folder that serving pods would load."""
        return self.folder / str(self.said["verdict"]["path"])

    def refill(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()
