"""States of a service that tools beside ours have to read from its status, by name."""

from typing import Final

from llmservice_operator.children import Children
from llmservice_operator.schema import LLMService
from tests.support.builders import make_llmservice, serving
from tests.support.rollouts import FIRST, SECOND, SETTINGS, crashing, loading, rolled_back, rolling

BEFORE: Final = serving(FIRST, SETTINGS)
STATES: Final[dict[str, tuple[LLMService, Children]]] = {
    "new": (FIRST, Children()),
    "serving": (FIRST, BEFORE),
    "rolling out": (SECOND, rolling(SECOND, BEFORE, loading)),
    "taken back": (SECOND, rolled_back(SECOND, BEFORE, rolling(SECOND, BEFORE, crashing))),
    "suspended": (make_llmservice(suspend=True), Children()),
    "paused before anything is there": (make_llmservice(paused=True), Children()),
    "a spec that cannot be carried out": (make_llmservice(profile="nowhere"), Children()),
}
