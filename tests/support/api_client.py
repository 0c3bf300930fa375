"""A bare client of a test's API server: it returns refusals instead of raising them, with the server's own words."""

import json
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.controlplane import ControlPlane

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the API server said: the object, or a Status that says why not; `warnings` as kubectl shows them."""

    status: int
    body: Manifest
    warnings: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class ApiClient:
    """LLMServices of one namespace, as administrator or as `user`, with that user's rights alone."""

    def __init__(self, plane: ControlPlane, namespace: str, user: str | None = None) -> None:
        context = ssl.create_default_context(cafile=str(plane.ca_file))
        context.load_cert_chain(plane.client_certificate, plane.client_key)
        path = f"{plane.url}/apis/llmservice.dev/v1alpha1/namespaces/{namespace}/llmservices"
        headers = {} if user is None else {"Impersonate-User": user}
        self._http = httpx.Client(verify=context, base_url=path, headers=headers, timeout=20, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def create(self, llmservice: Manifest, *, dry_run: bool = False, strict: bool = False) -> Answer:
        """Create an LLMService; `strict` refuses unknown fields, as kubectl asks for by default."""
        return self._send("POST", "", llmservice, "application/json", dry_run=dry_run, strict=strict)

    def patch(self, name: str, changes: Manifest, *, subresource: str = "", strict: bool = False) -> Answer:
        """Merge `changes` into an LLMService; None removes a field."""
        return self._send("PATCH", f"/{name}{subresource}", changes, "application/merge-patch+json", strict=strict)

    def apply(self, llmservice: Manifest, manager: str) -> Answer:
        """Apply an LLMService on the server, as GitOps controllers do: under a `manager` of their own, with force."""
        path = f"/{llmservice['metadata']['name']}"
        return self._send("PATCH", path, llmservice, "application/apply-patch+yaml", manager=manager)

    def replace(self, llmservice: Manifest, *, strict: bool = False) -> Answer:
        """Put an LLMService in the place of the one that has its name."""
        path = f"/{llmservice['metadata']['name']}"
        return self._send("PUT", path, llmservice, "application/json", strict=strict)

    def get(self, name: str, *, subresource: str = "") -> Manifest:
        """Return an LLMService, or its scale."""
        return self._send("GET", f"/{name}{subresource}", None, "application/json").body

    def _send(
        self,
        method: str,
        path: str,
        body: Manifest | None,
        content_type: str,
        *,
        dry_run: bool = False,
        strict: bool = False,
        manager: str | None = None,
    ) -> Answer:
        query: dict[str, str] = {} if manager is None else {"fieldManager": manager, "force": "true"}
        if body is not None:
            query["fieldValidation"] = "Strict" if strict else "Ignore"
        if dry_run:
            query["dryRun"] = "All"
        content = None if body is None else json.dumps(body)
        answer = self._http.request(method, path, params=query, content=content, headers={"Content-Type": content_type})
        return Answer(answer.status_code, answer.json(), tuple(answer.headers.get_list("Warning")))
