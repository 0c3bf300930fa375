"""Somebody has written nonsense into the annotations by which the operator remembers: it goes on as if nothing were."""

import copy

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from tests.support.builders import NOW, children_of, make_llmservice, make_settings, serving

SETTINGS = make_settings()
LLMSERVICE = make_llmservice(
    networkPolicy={"mode": "Restricted"}, rollout={"verification": {"prompts": [{"prompt": "a"}]}}
)
LIVE = serving(LLMSERVICE, SETTINGS)
PREFIX = f"{names.GROUP}/"
ANNOTATIONS = sorted(
    value for key, value in vars(names).items() if key.endswith("_ANNOTATION") and value.startswith(PREFIX)
)
NONSENSE = {
    "nothing": "",
    "no JSON": "{{ x",
    "a list": "[1, 2]",
    "an object of another shape": '{"result": 1, "outcome": {}, "source": null}',
    "a number without end": "9" * 10_000,
    "brackets without end": "[" * 200_000,
    "256 KiB": "x" * 262_000,
    "control characters": "\u0000\u001b[31m\ud7ff",
}


def spoilt(children: Children, value: str) -> Children:
    """Return the children with all of the annotations on each of them."""
    odd = copy.deepcopy([child for child in _all(children) if child["kind"] != "Pod"])
    for child in odd:
        child["metadata"]["annotations"] = dict.fromkeys(ANNOTATIONS, value)
    return children_of(*odd, *children.pods)


def _all(children: Children) -> list[Manifest]:
    single = (children.deployment, children.service, children.service_account)
    several = (*children.network_policies, *children.claims, *children.config_maps, *children.revisions, *children.jobs)
    return [child for child in (*single, *several, *children.pods) if child is not None]


@pytest.mark.parametrize("value", NONSENSE.values(), ids=NONSENSE.keys())
def test_c53_nonsense_in_the_annotations_of_children_touches_no_replica(value: str) -> None:
    children = spoilt(LIVE, value)
    before = {_place(manifest): _template(manifest) for manifest in desired(LLMSERVICE, LIVE, SETTINGS, NOW).manifests}
    wanted = desired(LLMSERVICE, children, SETTINGS, NOW)
    after = {_place(manifest): _template(manifest) for manifest in wanted.manifests}
    # A finished warm-up that does not say for which volume it was has no more use.
    gone = {_place(manifest) for manifest in wanted.deletions}
    assert {kind for kind, _ in gone} <= {"Job"}
    assert after == {place: template for place, template in before.items() if place not in gone}
    status = observe(LLMSERVICE, children, SETTINGS, NOW)
    ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
    assert ready["status"] == "True"


def _place(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _template(manifest: Manifest) -> Manifest | None:
    template: Manifest | None = manifest.get("spec", {}).get("template")
    return template
