"""The environment of the serving pods, in an immutable ConfigMap named by its content.

Named by content, because a pod that restarts in the middle of a rollout must find the configuration of its own
revision.
"""

from llmservice_operator import names
from llmservice_operator.desired import verification
from llmservice_operator.desired.effective import Effective
from llmservice_operator.desired.model_facts import ModelFacts
from llmservice_operator.manifest import Manifest
from llmservice_operator.schema import LLMService

API_KEYS_DIRECTORY = "/etc/llmservice/api-keys"
ENDPOINT_GRACE_SECONDS = 5
"""How long a terminating pod accepts requests that endpoints not yet updated still send."""


def config_map(llmservice: LLMService, values: Effective, facts: ModelFacts) -> Manifest:
    """Return the ConfigMap that the server container takes its environment from."""
    return of_data(llmservice, _environment(llmservice, values, facts))


def of_data(llmservice: LLMService, data: dict[str, str]) -> Manifest:
    """Return the ConfigMap with these variables, as one of an earlier revision is made again."""
    metadata = names.metadata(llmservice, name=names.config_map(llmservice.name, names.short_hash(data)))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": data}


def _environment(llmservice: LLMService, values: Effective, facts: ModelFacts) -> dict[str, str]:
    spec = llmservice.spec
    data = {
        "MODEL_NAME": facts.ref,
        "USE_4BIT": _flag(facts.quantization in ("auto", "nf4", "fp4")),
        "MAX_TOKENS": str(values.profile.max_tokens),
        "HF_HUB_OFFLINE": "1",
        "LLMSERVICE_MODEL_PATH": facts.folder,
        "LLMSERVICE_MODEL_REF": facts.ref,
        "LLMSERVICE_SERVED_NAME": facts.served_name,
        "LLMSERVICE_QUANTIZATION": facts.quantization,
        "LLMSERVICE_COMPUTE_DTYPE": facts.compute_dtype,
        "LLMSERVICE_DOUBLE_QUANT": _flag(facts.double_quant),
        "LLMSERVICE_DEVICE": "cuda" if values.gpus else "cpu",
        "LLMSERVICE_MAX_BATCH_SIZE": str(values.max_batch_size),
        "LLMSERVICE_MAX_QUEUE_DEPTH": str(values.max_queue_depth),
        "LLMSERVICE_DRAIN_TIMEOUT_SECONDS": str(spec.rollout.drain_timeout_seconds),
        "LLMSERVICE_ENDPOINT_GRACE_SECONDS": str(ENDPOINT_GRACE_SECONDS),
        "LLMSERVICE_LOG_FORMAT": spec.observability.log_format.lower(),
    }
    if facts.commit:
        data |= {"LLMSERVICE_MODEL_REVISION": facts.commit, "LLMSERVICE_MODEL_DIGEST": facts.digest}
    elif spec.model.digest is not None:
        # No warm-up has looked at these files.
        data["LLMSERVICE_EXPECTED_DIGEST"] = spec.model.digest
    if values.max_model_len is not None:
        data["LLMSERVICE_MAX_MODEL_LEN"] = str(values.max_model_len)
    if spec.rollout.verification is not None:
        data["LLMSERVICE_VERIFICATION_DIR"] = verification.DIRECTORY
    if spec.auth is not None and spec.auth.mode == "APIKey":
        data["LLMSERVICE_API_KEYS_DIR"] = API_KEYS_DIRECTORY
    return {**data, **values.profile.env}


def _flag(value: bool) -> str:
    return "true" if value else "false"
