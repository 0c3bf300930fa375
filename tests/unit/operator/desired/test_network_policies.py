"""Who reaches whom under each mode, by the rules that a network plugin enforces."""

from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.desired import desired
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService
from tests.support.builders import NOW, make_llmservice, make_settings, serving
from tests.support.network_policies import Peer, allows

SETTINGS = make_settings(managementNamespaces=["llmservice-system", "monitoring"])
NAMESPACE = make_llmservice().namespace
SERVER = Peer(NAMESPACE, names.labels("gemma", names.SERVER))
WARMUP = Peer(NAMESPACE, names.labels("gemma", names.WARMUP))
OTHER_SERVER = Peer(NAMESPACE, names.labels("llama", names.SERVER))
NEIGHBOUR, APP, STRANGER = Peer(NAMESPACE, {"app": "web"}), Peer("apps"), Peer("strangers")
OPERATOR, PROMETHEUS, OUTSIDE = Peer("llmservice-system"), Peer("monitoring"), Peer(None)
KEYS = {"mode": "APIKey", "apiKeysSecretRef": {"name": "keys"}}


def policies(llmservice: LLMService) -> list[Manifest]:
    manifests = desired(llmservice, serving(llmservice, SETTINGS), SETTINGS, NOW).manifests
    return [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]


def make(mode: str, **spec: Any) -> list[Manifest]:
    return policies(make_llmservice(networkPolicy={"mode": mode, "allowFromNamespaces": ["apps"]}, **spec))


REACHED = [
    # source, target, port, in mode Restricted, in mode Offline
    pytest.param(NEIGHBOUR, SERVER, 8000, True, True, id="its own namespace asks"),
    pytest.param(APP, SERVER, 8000, True, True, id="a namespace that is let in asks"),
    pytest.param(STRANGER, SERVER, 8000, False, False, id="another namespace asks"),
    pytest.param(OUTSIDE, SERVER, 8000, False, False, id="the world asks"),
    pytest.param(OPERATOR, SERVER, 9090, True, True, id="the operator polls"),
    pytest.param(PROMETHEUS, SERVER, 9090, True, True, id="the monitoring scrapes"),
    pytest.param(OPERATOR, SERVER, 8000, False, False, id="the operator asks"),
    pytest.param(NEIGHBOUR, SERVER, 9090, False, False, id="its own namespace at the management port"),
    pytest.param(APP, SERVER, 9090, False, False, id="a namespace that is let in at the management port"),
    pytest.param(OPERATOR, WARMUP, 9090, True, True, id="the operator polls the warm-up"),
    pytest.param(NEIGHBOUR, WARMUP, 9090, False, False, id="its own namespace at the warm-up"),
    pytest.param(NEIGHBOUR, WARMUP, 8000, False, False, id="its own namespace at a port that the warm-up has not"),
    pytest.param(SERVER, OUTSIDE, 443, True, False, id="a replica to the world"),
    pytest.param(SERVER, STRANGER, 80, True, False, id="a replica to another namespace"),
    pytest.param(SERVER, OTHER_SERVER, 8000, True, False, id="a replica to its neighbour"),
    pytest.param(SERVER, Peer("kube-system"), 53, True, False, id="a replica to the name server"),
    pytest.param(WARMUP, OUTSIDE, 443, True, True, id="the warm-up to its hub"),
]


@pytest.mark.parametrize(("source", "target", "port", "restricted", "offline"), REACHED)
def test_who_reaches_whom(source: Peer, target: Peer, port: int, restricted: bool, offline: bool) -> None:
    assert allows(make("Restricted"), source, target, port) is restricted
    assert allows(make("Offline"), source, target, port) is offline


@pytest.mark.parametrize("service_type", ["NodePort", "LoadBalancer"])
def test_a_service_that_is_reachable_from_outside_is_reached_and_its_management_port_is_not(service_type: str) -> None:
    made = make("Offline", service={"type": service_type}, auth=KEYS)
    assert allows(made, OUTSIDE, SERVER, 8000)
    assert allows(made, STRANGER, SERVER, 8000)
    assert not allows(made, OUTSIDE, SERVER, 9090)


def test_without_management_namespaces_nobody_reaches_the_management_port() -> None:
    llmservice, settings = make_llmservice(networkPolicy={"mode": "Restricted"}), make_settings(managementNamespaces=[])
    manifests = desired(llmservice, serving(llmservice, settings), settings, NOW).manifests
    made = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    assert not allows(made, OPERATOR, SERVER, 9090)
    assert not allows(made, OPERATOR, WARMUP, 9090)
    assert allows(made, NEIGHBOUR, SERVER, 8000)


@pytest.mark.parametrize("spec", [{}, {"networkPolicy": {"mode": "None"}}])
def test_no_policy_is_made_unless_asked_for_and_then_everybody_reaches_everything(spec: Any) -> None:
    made = policies(make_llmservice(**spec))
    assert made == []
    assert allows(made, OUTSIDE, SERVER, 9090)


def test_policies_that_are_not_asked_for_any_more_go() -> None:
    children = serving(make_llmservice(networkPolicy={"mode": "Offline"}), SETTINGS)
    assert len(children.network_policies) == 2
    assert desired(make_llmservice(), children, SETTINGS, NOW).deletions == children.network_policies
