"""Every kind of child, whole: with a spec of six lines, and with every field and a profile that sets everything."""

from typing import Any

import pytest
from pytest_regressions.data_regression import DataRegressionFixture

from llmservice_operator.children import Children
from llmservice_operator.desired import desired
from tests.support.builders import NOW, cached, make_llmservice, make_settings, manifest_of
from tests.support.specs import FULL_PROFILE, FULL_SPEC, SCALING

KINDS = ("PersistentVolumeClaim", "ConfigMap", "Job", "Deployment", "Service")


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_of_a_minimal_spec(kind: str, data_regression: DataRegressionFixture) -> None:
    llmservice, settings = make_llmservice(), make_settings()
    manifests = desired(llmservice, cached(llmservice, settings), settings, NOW).manifests
    data_regression.check(manifest_of(manifests, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_of_a_full_spec(kind: str, data_regression: DataRegressionFixture) -> None:
    llmservice, settings = make_llmservice("llama", **FULL_SPEC), make_settings(profile=FULL_PROFILE)
    manifests = desired(llmservice, cached(llmservice, settings), settings, NOW).manifests
    data_regression.check(manifest_of(manifests, kind))


def test_a_minimal_autoscaler(data_regression: DataRegressionFixture) -> None:
    llmservice, settings = make_llmservice(scaling=SCALING), make_settings()
    manifests = desired(llmservice, cached(llmservice, settings), settings, NOW).manifests
    data_regression.check(manifest_of(manifests, "HorizontalPodAutoscaler"))


def test_a_full_autoscaler_has_canonical_quantities_and_the_users_behavior(
    data_regression: DataRegressionFixture,
) -> None:
    target: dict[str, Any] = {"type": "AverageValue", "averageValue": "6000m"}
    labels = {"matchLabels": {"value": "gemma"}}
    metrics = [
        {"type": "Pods", "pods": {"metric": {"name": "llmservice_requests_in_flight"}, "target": target}},
        {
            "type": "External",
            "external": {"metric": {"name": "depth", "selector": labels}, "target": {"type": "Value", "value": 1000}},
        },
    ]
    behavior = {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 600}]}}
    llmservice = make_llmservice(scaling={**SCALING, "metrics": metrics, "behavior": behavior})
    settings = make_settings()
    manifests = desired(llmservice, cached(llmservice, settings), settings, NOW).manifests
    data_regression.check(manifest_of(manifests, "HorizontalPodAutoscaler"))


def test_a_disruption_budget(data_regression: DataRegressionFixture) -> None:
    llmservice, settings = make_llmservice(disruption={"maxUnavailable": 1}), make_settings()
    manifests = desired(llmservice, cached(llmservice, settings), settings, NOW).manifests
    data_regression.check(manifest_of(manifests, "PodDisruptionBudget"))


def test_a_network_policy_of_replicas_that_reach_nobody(data_regression: DataRegressionFixture) -> None:
    llmservice, settings = make_llmservice(networkPolicy={"mode": "Offline"}), make_settings()
    manifests = desired(llmservice, cached(llmservice, settings), settings, NOW).manifests
    policies = [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]
    data_regression.check(policies[0])


@pytest.mark.parametrize("kind", ["ConfigMap", "Deployment"])
def test_a_child_of_a_spec_with_source_pvc(kind: str, data_regression: DataRegressionFixture) -> None:
    llmservice = make_llmservice(source={"pvc": {"claimName": "models", "path": "gemma/270m"}})
    manifests = desired(llmservice, Children(), make_settings(), NOW).manifests
    data_regression.check(manifest_of(manifests, kind))
