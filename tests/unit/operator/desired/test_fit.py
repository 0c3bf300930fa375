"""Models that do not fit: what is said, what is proposed, and that no GPU is asked for."""

from dataclasses import replace
from typing import Any

import pytest

from llmservice_operator import names
from llmservice_operator.children import Children
from llmservice_operator.conditions import MESSAGE_LIMIT
from llmservice_operator.desired import desired
from llmservice_operator.desired.cached_model import cached_model
from llmservice_operator.desired.configuration import Problem
from llmservice_operator.desired.effective import Effective, effective
from llmservice_operator.desired.fit import unfit
from llmservice_operator.diagnosis import verdict
from llmservice_operator.diagnosis.model_shape import ModelShape
from llmservice_operator.manifest import Manifest
from llmservice_operator.observe import observe
from llmservice_operator.schema import LLMService
from llmservice_operator.settings import Settings
from tests.support.builders import (
    NOW,
    SHAPE,
    VERDICT,
    cached,
    make_llmservice,
    make_settings,
    manifest_of,
    serving,
)

SHAPE_OF = names.SHAPE_ANNOTATION
KNOWN = {**VERDICT, "shape": SHAPE}
MEMORY_16: dict[str, Any] = {"gpu": {"count": 1, "memory": "16Gi"}}
"""One GPU of 16 GiB for each replica."""
PLAIN = {**KNOWN, "quantization": "none"}
"""The verdict about a model that is served as it is."""


def found(spec: Manifest, profile: Manifest, known: Manifest = KNOWN) -> tuple[Problem, ...]:
    """Return what does not fit of a service whose warm-up has just said `verdict`."""
    llmservice, settings = make_llmservice(repo="meta-llama/Llama-3.2-3B", **spec), make_settings(profile=profile)
    values = values_of(llmservice, settings)
    cache = cached_model(llmservice, values, cached(llmservice, settings, known))
    assert cache is not None
    return unfit(llmservice, values, cache, cache.facts)


def values_of(llmservice: LLMService, settings: Settings) -> Effective:
    profile = settings.profile(llmservice.spec.profile)
    assert profile is not None
    return effective(llmservice, profile, settings)


def said(**changes: Any) -> Manifest:
    """Return the verdict about a model whose shape differs in `changes`."""
    return {**VERDICT, "shape": {**SHAPE, **changes}}


def engine(**fields: Any) -> dict[str, Any]:
    return {"engine": fields}


@pytest.mark.parametrize(
    ("spec", "profile", "known"),
    [
        pytest.param({}, MEMORY_16, KNOWN, id="it fits the GPU"),
        pytest.param(engine(maxModelLen=131072), {"gpu": {"count": 1}}, KNOWN, id="the GPU's memory is not known"),
        pytest.param(engine(maxModelLen=131072), MEMORY_16, VERDICT, id="filled by an earlier version"),
        pytest.param(engine(maxModelLen=131072), MEMORY_16, said(linear_weights=-1), id="a shape that cannot be read"),
        pytest.param(
            {"resources": {"gpu": {"resourceName": "nvidia.com/mig-1g.5gb"}}, **engine(maxModelLen=131072)},
            MEMORY_16,
            KNOWN,
            id="another GPU than the one whose memory the profile knows",
        ),
        pytest.param({}, {"limits": {"memory": "16Gi"}}, KNOWN, id="it fits the pod"),
        pytest.param(
            {},
            {"limits": {"memory": "256Mi"}, "requests": {}, "env": {"LLMSERVICE_ENGINE": "fake"}},
            KNOWN,
            id="the fake engine loads nothing",
        ),
        pytest.param(engine(maxModelLen=131072), {"limits": {"memory": "1Ti"}}, KNOWN, id="as long as it was made for"),
    ],
)
def test_nothing_is_refused_when(spec: Manifest, profile: Manifest, known: Manifest) -> None:
    assert found(spec, profile, known) == ()


# C27
@pytest.mark.parametrize(
    ("spec", "profile", "message"),
    [
        pytest.param(
            engine(maxModelLen=200_000),
            MEMORY_16,
            "Lower spec.engine.maxModelLen to 131072: meta-llama/Llama-3.2-3B was made for that, not for 200000 tokens",
            id="the spec's own",
        ),
        pytest.param(
            {},
            {**MEMORY_16, "maxModelLen": 200_000},
            "Set spec.engine.maxModelLen to 131072: meta-llama/Llama-3.2-3B was made for that, not for the 200000 "
            "tokens that are the profile's default",
            id="the profile's",
        ),
    ],
)
def test_a_context_beyond_what_the_model_was_made_for_is_named(spec: Manifest, profile: Manifest, message: str) -> None:
    assert found(spec, profile) == (Problem("ContextTooLong", message),)


# C26
@pytest.mark.parametrize(
    ("spec", "profile", "known", "message"),
    [
        pytest.param(
            engine(maxModelLen=32768),
            MEMORY_16,
            KNOWN,
            "Lower spec.engine.maxModelLen to 10240, or choose a GPU of at least 42Gi: ",
            id="shorter",
        ),
        pytest.param(
            engine(maxModelLen=8192, batching={"maxBatchSize": 4}),
            {"gpu": {"count": 1, "memory": "12Gi"}},
            PLAIN,
            "Lower spec.engine.maxModelLen to 7168, or set spec.engine.quantization.method to BitsAndBytesInt8, or",
            id="shorter, or fewer bits: the most precise that will do",
        ),
        pytest.param(
            engine(maxModelLen=8192, batching={"maxBatchSize": 4}),
            {"gpu": {"count": 1, "memory": "12Gi"}},
            {**said(quantization="int8"), "quantization": "int8"},
            None,
            id="8 bits fit",
        ),
        pytest.param(
            engine(maxModelLen=8192),
            {"gpu": {"count": 1, "memory": "7Gi"}},
            PLAIN,
            "Set spec.engine.quantization.method to BitsAndBytesInt8 and spec.engine.maxModelLen to 2048, or",
            id="fewer bits and shorter",
        ),
        pytest.param(
            engine(maxModelLen=8192),
            {"gpu": {"count": 1, "memory": "4Gi"}},
            {**said(quantization="int8"), "quantization": "int8"},
            "Choose a GPU of at least 15Gi: ",
            id="a checkpoint in 8 bits cannot be quantized otherwise",
        ),
        pytest.param(
            engine(maxModelLen=8192),
            {"gpu": {"count": 1, "memory": "2Gi"}},
            KNOWN,
            "Choose a GPU of at least 14Gi: ",
            id="nothing but a larger GPU",
        ),
        pytest.param(
            {},
            {"limits": {"memory": "8Gi"}},
            KNOWN,
            "Lower spec.engine.maxModelLen to 4096, or raise spec.resources.limits.memory to 12Gi: ",
            id="the pod's limit",
        ),
    ],
)
def test_what_does_not_fit_is_told_what_would(
    spec: Manifest, profile: Manifest, known: Manifest, message: str | None
) -> None:
    problems = found(spec, profile, known)
    assert [problem.reason for problem in problems] == ([] if message is None else ["ModelTooLarge"])
    for problem in problems:
        assert problem.message.startswith(message or "")
        assert len(problem.message) <= MESSAGE_LIMIT


def test_a_message_accounts_for_what_is_needed_and_names_what_there_is() -> None:
    (problem,) = found(engine(maxModelLen=32768), MEMORY_16)
    assert problem.message == (
        "Lower spec.engine.maxModelLen to 10240, or choose a GPU of at least 42Gi: meta-llama/Llama-3.2-3B needs "
        "41.9Gi (nf4 weights 2.2Gi, KV cache of 8 x 32768 tokens 38.5Gi), a GPU nvidia.com/gpu has 16Gi "
        "(resources.gpu.memory)"
    )


@pytest.mark.parametrize("gigabytes", [5, 6, 8, 12, 16, 24, 40])
def test_what_is_proposed_fits(gigabytes: int) -> None:
    profile = {"gpu": {"count": 1, "memory": f"{gigabytes}Gi"}}
    (problem,) = found(engine(maxModelLen=131072), profile)
    proposed = int(problem.message.removeprefix("Lower spec.engine.maxModelLen to ").split(",")[0])
    assert found(engine(maxModelLen=proposed), profile) == ()
    assert found(engine(maxModelLen=proposed + 1024), profile) != ()


LONG = engine(maxModelLen=32768)


def kinds(llmservice: LLMService, children: Children, settings: Settings) -> set[str]:
    return {manifest["kind"] for manifest in desired(llmservice, children, settings, NOW).manifests}


PODS = {"ConfigMap", "ControllerRevision", "Deployment"}


def test_no_gpu_is_asked_for_and_the_verdict_is_kept() -> None:
    settings = make_settings(profile=MEMORY_16)
    llmservice = make_llmservice(**LONG)
    wanted = desired(llmservice, cached(llmservice, settings, KNOWN), settings, NOW)
    assert kinds(llmservice, cached(llmservice, settings, KNOWN), settings).isdisjoint(PODS)
    claim = manifest_of(wanted.manifests, "PersistentVolumeClaim")
    (record,) = verdict.records(claim["metadata"]["annotations"][names.CACHED_ANNOTATION]).values()
    assert record.shape == ModelShape.model_validate(SHAPE)


@pytest.mark.parametrize("cache", [{"claimName": "models"}, {}], ids=["shared", "its annotation was removed"])
def test_the_shape_outlasts_the_warm_up(cache: Manifest) -> None:
    settings = make_settings(profile=MEMORY_16)
    before = serving(make_llmservice(cache=cache), settings, KNOWN)
    claims = tuple({**item, "metadata": {**item["metadata"], "annotations": {}}} for item in before.claims)
    servers = tuple(pod for pod in before.pods if pod["metadata"]["labels"][names.COMPONENT_LABEL] == names.SERVER)
    children = replace(before, claims=claims, jobs=(), pods=servers)

    edited = make_llmservice(cache=cache, **engine(maxModelLen=65536))
    assert {"Job", "Deployment"}.isdisjoint(item["kind"] for item in desired(edited, children, settings, NOW).manifests)
    status = observe(edited, children, settings, NOW)
    assert [item["reason"] for item in status["conditions"] if item["type"] == "ConfigurationValid"] == [
        "ModelTooLarge"
    ]
    assert status["model"]["estimatedMemoryBytes"] > 16 << 30


@pytest.mark.parametrize("text", ["", "[]", '{"linear_weights": -1}', "no json"])
def test_a_shape_that_somebody_has_edited_refuses_nothing(text: str) -> None:
    settings = make_settings(profile=MEMORY_16)
    shared = {"claimName": "models"}
    before = serving(make_llmservice(cache=shared), settings, KNOWN)
    (revision,) = before.revisions
    metadata = {**revision["metadata"], "annotations": {**revision["metadata"]["annotations"], SHAPE_OF: text}}
    servers = tuple(pod for pod in before.pods if pod["metadata"]["labels"][names.COMPONENT_LABEL] == names.SERVER)
    children = replace(before, revisions=({**revision, "metadata": metadata},), jobs=(), pods=servers)

    edited = make_llmservice(cache=shared, **engine(maxModelLen=65536))
    assert "Deployment" in [item["kind"] for item in desired(edited, children, settings, NOW).manifests]


def test_a_change_that_does_not_fit_leaves_what_runs() -> None:
    settings = make_settings(profile=MEMORY_16)
    children = serving(make_llmservice(), settings, KNOWN)
    wanted = desired(make_llmservice(**LONG), children, settings, NOW)
    assert {manifest["kind"] for manifest in wanted.manifests}.isdisjoint(PODS)
    assert wanted.deletions == ()


def test_one_that_fits_again_is_rolled_out() -> None:
    settings = make_settings(profile=MEMORY_16)
    children = serving(make_llmservice(), settings, KNOWN)
    assert kinds(make_llmservice(**engine(maxModelLen=9216)), children, settings) >= PODS


def test_whoever_suspends_is_not_kept_waiting() -> None:
    settings = make_settings(profile=MEMORY_16)
    children = serving(make_llmservice(), settings, KNOWN)
    wanted = desired(make_llmservice(suspend=True, **LONG), children, settings, NOW)
    assert manifest_of(wanted.manifests, "Deployment")["spec"]["replicas"] == 0


def test_the_model_that_serves_is_not_rolled_out_with_what_only_the_next_one_can_do() -> None:
    settings = make_settings(profile={"gpu": {"count": 1}})
    children = serving(make_llmservice(), settings, said(context=4096))
    larger = make_llmservice(repo="google/gemma-3-1b", **LONG)
    assert kinds(larger, children, settings).isdisjoint(PODS)
    llmservice_status = observe(larger, children, settings, NOW)
    (valid,) = [item for item in llmservice_status["conditions"] if item["type"] == "ConfigurationValid"]
    assert valid["status"] == "True"


def test_the_status_says_what_does_not_fit_and_how_much_it_needs() -> None:
    settings = make_settings(profile=MEMORY_16)
    children = serving(make_llmservice(), settings, KNOWN)
    status = observe(make_llmservice(**LONG), children, settings, NOW)
    conditions = {item["type"]: item for item in status["conditions"]}
    assert (conditions["ConfigurationValid"]["status"], conditions["Serving"]["status"]) == ("False", "True")
    reasons = {conditions[kind]["reason"] for kind in ("ConfigurationValid", "Ready", "Stalled")}
    assert reasons == {"ModelTooLarge"}
    assert "Reconciling" not in conditions
    assert "progress" not in status
    assert 40 < status["model"]["estimatedMemoryBytes"] / 2**30 < 42


@pytest.mark.parametrize(
    ("known", "profile", "is_shown"),
    [
        pytest.param(KNOWN, {"gpu": {"count": 1}}, True, id="whatever the GPU has"),
        pytest.param(VERDICT, {}, False, id="filled by an earlier version"),
        pytest.param(KNOWN, {"env": {"LLMSERVICE_ENGINE": "fake"}}, False, id="no model is loaded"),
    ],
)
def test_the_estimate_is_shown_where_there_is_one(known: Manifest, profile: Manifest, is_shown: bool) -> None:
    settings = make_settings(profile=profile)
    status = observe(make_llmservice(), serving(make_llmservice(), settings, known), settings, NOW)
    assert ("estimatedMemoryBytes" in status["model"]) is is_shown


def test_what_a_pod_is_made_from_does_not_follow_from_the_shape() -> None:
    settings = make_settings()
    with_shape, without = (
        manifest_of(
            desired(make_llmservice(), cached(make_llmservice(), settings, known), settings, NOW).manifests,
            "Deployment",
        )
        for known in (KNOWN, VERDICT)
    )
    assert with_shape == without
