"""deploy/admission on a real API server (C12): who newly names a Secret or a claim needs a right to it, nobody else."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.api_client import Answer, ApiClient, Manifest
from tests.support.controlplane import ControlPlane
from tests.support.corpus import llmservice
from tests.support.people import install_policies, let, let_write_llmservices

Spec = dict[str, Any]

NAMESPACE = "policies"
USER = "wilma"
HUB = {"repo": "acme/tiny"}
ARCHIVE = {"url": "https://models.test/tiny.tar", "sha256": "0" * 64}
FOLDER = {"uri": "s3://models/tiny", "endpoint": "https://s3.test"}
WITHOUT: Spec = {"model": {"source": {"huggingFace": HUB}}}
"""A spec that names nothing."""


@dataclass(frozen=True)
class Reference:
    """A field that names another object, and the right that this takes; `spec` names MINE in it."""

    field: str
    kind: str
    verb: str
    spec: Spec

    @property
    def resource(self) -> str:
        return f"{self.kind.lower()}s"

    def naming(self, name: str) -> Spec:
        """Return a spec that names `name`."""
        return {**WITHOUT, **_with_name(self.spec, name)}


def _with_name(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_name(inner, name) for key, inner in value.items()}
    return name if value == "MINE" else value


TOKEN = Reference(
    "spec.model.source.huggingFace.tokenSecretRef",
    "Secret",
    "get",
    {"model": {"source": {"huggingFace": {**HUB, "tokenSecretRef": {"name": "MINE"}}}}},
)
HTTP = Reference(
    "spec.model.source.http.tokenSecretRef",
    "Secret",
    "get",
    {"model": {"source": {"http": {**ARCHIVE, "tokenSecretRef": {"name": "MINE"}}}}},
)
BUCKET = Reference(
    "spec.model.source.s3.credentialsSecretRef",
    "Secret",
    "get",
    {"model": {"source": {"s3": {**FOLDER, "credentialsSecretRef": {"name": "MINE"}}}}},
)
KEYS = Reference(
    "spec.auth.apiKeysSecretRef",
    "Secret",
    "get",
    {"auth": {"mode": "APIKey", "apiKeysSecretRef": {"name": "MINE"}}},
)
CLAIM = Reference(
    "spec.model.source.pvc.claimName",
    "PersistentVolumeClaim",
    "get",
    {"model": {"source": {"pvc": {"claimName": "MINE"}}}},
)
CACHE = Reference("spec.cache.claimName", "PersistentVolumeClaim", "update", {"cache": {"claimName": "MINE"}})
each_reference = pytest.mark.parametrize(
    "reference", [TOKEN, HTTP, BUCKET, KEYS, CLAIM, CACHE], ids=lambda reference: reference.field
)


@pytest.fixture(scope="module", autouse=True)
def policies(plane: ControlPlane) -> None:
    """The policies in force, and a user who may write LLMServices and nothing else."""
    install_policies(plane)
    plane.kubectl("create", "namespace", NAMESPACE)
    let_write_llmservices(plane, NAMESPACE, USER)
    probe = llmservice(CACHE.naming("any"), "probe", NAMESPACE)
    deadline = time.monotonic() + 20
    with ApiClient(plane, NAMESPACE, USER) as api:
        while "Ask for" not in api.create(probe, dry_run=True).message:
            assert time.monotonic() < deadline, "the policies are not in force"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def admin(plane: ControlPlane) -> Iterator[ApiClient]:
    with ApiClient(plane, NAMESPACE) as api:
        yield api


@pytest.fixture(scope="module")
def user(plane: ControlPlane) -> Iterator[ApiClient]:
    with ApiClient(plane, NAMESPACE, USER) as api:
        yield api


@pytest.fixture
def mine() -> str:
    """The name of the test's own LLMService, and of what it names; the user has no right to it."""
    return f"mine-{uuid.uuid4().hex[:8]}"


def _replaced(api: ApiClient, name: str, spec: Spec) -> Answer:
    """Put another spec in the place of the one that is there."""
    replacement = llmservice(spec, name, NAMESPACE)
    replacement["metadata"]["resourceVersion"] = api.get(name)["metadata"]["resourceVersion"]
    return api.replace(replacement)


def _is_refused(answer: Answer, reference: Reference, name: str) -> bool:
    """Whether the policy refuses and says what to do, with the object and the field."""
    advice = f"Ask for the right to {reference.verb} {reference.kind} {name} in namespace {NAMESPACE}"
    assert (answer.status, answer.body.get("reason")) == (403, "Forbidden"), answer.body
    assert f"{advice}, or name another one in {reference.field}:" in answer.message
    return True


@each_reference
def test_only_who_has_a_right_to_an_object_may_name_it(
    plane: ControlPlane, user: ApiClient, mine: str, reference: Reference
) -> None:
    manifest = llmservice(reference.naming(mine), mine, NAMESPACE)
    assert _is_refused(user.create(manifest), reference, mine)
    let(plane, NAMESPACE, USER, reference.verb, reference.resource, mine)
    assert user.create(manifest).accepted


@each_reference
def test_an_update_may_newly_name_only_what_its_user_has_a_right_to(
    plane: ControlPlane, user: ApiClient, mine: str, reference: Reference
) -> None:
    assert user.create(llmservice(WITHOUT, mine, NAMESPACE)).accepted
    assert _is_refused(_replaced(user, mine, reference.naming(mine)), reference, mine)
    let(plane, NAMESPACE, USER, reference.verb, reference.resource, mine)
    assert _replaced(user, mine, reference.naming(mine)).accepted
    assert _is_refused(user.patch(mine, {"spec": reference.naming("theirs")}), reference, "theirs")


@each_reference
def test_what_somebody_else_has_named_stays_while_the_rest_is_edited(
    admin: ApiClient, user: ApiClient, mine: str, reference: Reference
) -> None:
    assert admin.create(llmservice(reference.naming(mine), mine, NAMESPACE)).accepted
    edits: list[Manifest] = [
        {"spec": {"engine": {"maxModelLen": 2048}}},
        {"metadata": {"annotations": {"llmservice.dev/restart": "1"}}},
        {"spec": {"cache": {"reclaimPolicy": "Retain"}}},
    ]
    assert all(user.patch(mine, edit).accepted for edit in edits)
    assert user.patch(mine, {"spec": {"replicas": 3}}, subresource="/scale").accepted
    assert user.get(mine)["spec"]["replicas"] == 3


@each_reference
def test_another_applier_of_the_same_values_needs_no_right_to_them(
    admin: ApiClient, user: ApiClient, mine: str, reference: Reference
) -> None:
    manifest = llmservice(reference.naming(mine), mine, NAMESPACE)
    assert admin.create(manifest).accepted
    assert user.apply(manifest, "gitops").accepted
    another = llmservice(reference.naming(mine), f"{mine}-2", NAMESPACE)
    assert _is_refused(user.apply(another, "gitops"), reference, mine)


@each_reference
def test_a_reference_may_be_taken_out_and_not_put_back(
    admin: ApiClient, user: ApiClient, mine: str, reference: Reference
) -> None:
    assert admin.create(llmservice(reference.naming(mine), mine, NAMESPACE)).accepted
    assert _replaced(user, mine, WITHOUT).accepted
    assert _is_refused(_replaced(user, mine, reference.naming(mine)), reference, mine)


@each_reference
def test_a_right_in_another_namespace_does_not_count(
    plane: ControlPlane, namespace: str, user: ApiClient, mine: str, reference: Reference
) -> None:
    let(plane, namespace, USER, reference.verb, reference.resource)
    assert _is_refused(user.create(llmservice(reference.naming(mine), mine, NAMESPACE)), reference, mine)


OTHER = {"huggingFace": {"revision": "v2"}, "http": {"sha256": "1" * 64}, "s3": {"region": "eu-central-1"}}
"""Edits of each source that its secret still serves for."""


@pytest.mark.parametrize(
    ("reference", "source", "change"),
    [
        pytest.param(TOKEN, "huggingFace", {"tokenSecretRef": {"key": "password"}}, id="another key of the Secret"),
        pytest.param(TOKEN, "huggingFace", {"endpoint": "https://hub.example.com"}, id="the token to another hub"),
        pytest.param(TOKEN, "huggingFace", {"repo": "acme/private"}, id="another repository with the token"),
        pytest.param(HTTP, "http", {"url": "https://models.test/private.tar"}, id="another archive with the token"),
        pytest.param(BUCKET, "s3", {"uri": "s3://private/model"}, id="another bucket with the credentials"),
        pytest.param(BUCKET, "s3", {"endpoint": "https://other.test"}, id="the credentials to another server"),
    ],
)
def test_a_secret_serves_for_what_it_was_named_for(
    plane: ControlPlane,
    admin: ApiClient,
    user: ApiClient,
    mine: str,
    reference: Reference,
    source: str,
    change: Spec,
) -> None:
    assert admin.create(llmservice(reference.naming(mine), mine, NAMESPACE)).accepted
    edit = {"spec": {"model": {"source": {source: change}}}}
    assert _is_refused(user.patch(mine, edit), reference, mine)
    assert user.patch(mine, {"spec": {"model": {"source": {source: OTHER[source]}}}}).accepted
    let(plane, NAMESPACE, USER, "get", "secrets", mine)
    assert user.patch(mine, edit).accepted


def test_another_folder_of_a_claim_is_newly_named(admin: ApiClient, user: ApiClient, mine: str) -> None:
    assert admin.create(llmservice(CLAIM.naming(mine), mine, NAMESPACE)).accepted
    edit = {"spec": {"model": {"source": {"pvc": {"path": "private"}}}}}
    assert _is_refused(user.patch(mine, edit), CLAIM, mine)


def test_who_may_only_read_a_claim_may_not_fill_it(plane: ControlPlane, user: ApiClient, mine: str) -> None:
    let(plane, NAMESPACE, USER, "get,list,watch", "persistentvolumeclaims", mine)
    assert user.create(llmservice(CLAIM.naming(mine), mine, NAMESPACE)).accepted
    assert _is_refused(user.create(llmservice(CACHE.naming(mine), f"{mine}-2", NAMESPACE)), CACHE, mine)


def test_a_secret_named_in_one_field_is_newly_named_in_another(admin: ApiClient, user: ApiClient, mine: str) -> None:
    assert admin.create(llmservice(TOKEN.naming(mine), mine, NAMESPACE)).accepted
    assert _is_refused(user.patch(mine, {"spec": {"auth": KEYS.naming(mine)["auth"]}}), KEYS, mine)


@each_reference
def test_the_status_is_written_without_a_right_to_what_the_spec_names(
    plane: ControlPlane, admin: ApiClient, mine: str, reference: Reference
) -> None:
    assert admin.create(llmservice(reference.naming(mine), mine, NAMESPACE)).accepted
    let(plane, NAMESPACE, "reporter", "patch", "llmservices/status.llmservice.dev", mine)
    with ApiClient(plane, NAMESPACE, "reporter") as reporter:
        assert reporter.patch(mine, {"status": {"phase": "Pending"}}, subresource="/status").accepted
