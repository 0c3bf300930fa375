"""The CustomResourceDefinition, generated from the pydantic schema.

pydantic writes JSON Schema; the API server wants a structural schema, a strict subset of OpenAPI 3.0. `structural` is
the way from one to the other for what our schema uses, and refuses the rest. `make crd` writes crds/llmservice.yaml.
"""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from llmservice_operator import names
from llmservice_operator.schema.rules import VALIDATIONS
from llmservice_operator.schema.spec import Spec
from llmservice_operator.schema.status import LLMServiceStatus

JsonSchema = Mapping[str, Any]

NAME_RULE: Final[Mapping[str, Any]] = {
    # A name cannot be changed, so an object that is there already stays editable whatever its name is.
    # A Service called kubernetes would tell every new pod of the namespace another address of the API server.
    "rule": "oldSelf.hasValue() || (size(self.metadata.name) <= 45 && self.metadata.name != 'kubernetes' && "
    "self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$'))",
    "optionalOldSelf": True,
    "message": "metadata.name becomes a Service's name: at most 45 of a-z, 0-9 and '-', starting with a letter, no "
    "dots (llama-3-2-3b, not llama-3.2-3b), and not kubernetes",
}

_READY = '.status.conditions[?(@.type=="Ready")]'
_SERVING = '.status.conditions[?(@.type=="Serving")]'

PRINTER_COLUMNS: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": "Model", "type": "string", "jsonPath": ".status.model.ref"},
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Ready", "type": "string", "jsonPath": ".status.readySummary"},
    {"name": "Serving", "type": "string", "jsonPath": f"{_SERVING}.status"},
    {"name": "Revision", "type": "string", "jsonPath": ".status.rollout.currentRevision"},
    {"name": "Progress", "type": "string", "jsonPath": ".status.progress"},
    {"name": "Reason", "type": "string", "jsonPath": f"{_READY}.reason"},
    {"name": "URL", "type": "string", "jsonPath": ".status.url", "priority": 1},
    {"name": "Auth", "type": "string", "jsonPath": ".spec.auth.mode", "priority": 1},
    {
        "name": "Update",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="UpdatePending")].status',
        "priority": 1,
    },
    {"name": "Quantization", "type": "string", "jsonPath": ".status.model.quantization", "priority": 1},
    {"name": "GPUs", "type": "integer", "jsonPath": ".status.resources.gpus", "priority": 1},
    {"name": "Message", "type": "string", "jsonPath": f"{_READY}.message", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)

# In the order in which they are written: what a reader looks for first comes first.
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "anyOf",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    VALIDATIONS,
    "required",
    "properties",
    "items",
    "additionalProperties",
)
_DROPPED = frozenset({"title", "$defs"})


class UnsupportedSchema(ValueError):  # noqa: N818 - it names the schema that is wrong
    """A pydantic type whose JSON Schema has no structural form; the message says where and what."""


def structural(schema: JsonSchema, definitions: Mapping[str, JsonSchema], path: str = "") -> dict[str, Any]:
    """Return the structural schema of a JSON Schema that pydantic made.

    References are written out, `X | None` becomes an optional X, a constant an enumeration of one, defaults of None and
    of empty collections go, and a structure with defaults inside gets the default {}, without which the API server
    would not look inside.

    Raises:
        UnsupportedSchema: the schema uses what a structural schema cannot say.
    """
    flat = _without_null(_resolved(schema, definitions), definitions, path)
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    unknown = flat.keys() - set(_KEPT) - _DROPPED
    if unknown:
        raise UnsupportedSchema(f"{path or 'the schema'} uses {', '.join(sorted(unknown))}")
    if "properties" in flat:
        required = frozenset(flat.get("required", ()))
        flat["properties"] = {
            name: _property(value, definitions, f"{path}.{name}", required=name in required)
            for name, value in flat["properties"].items()
        }
    if "items" in flat:
        flat["items"] = structural(flat["items"], definitions, f"{path}[]")
    if "additionalProperties" in flat:
        flat["additionalProperties"] = structural(flat["additionalProperties"], definitions, f"{path}.*")
    if VALIDATIONS in flat:
        flat[VALIDATIONS] = [_in_order(rule, ("rule", "fieldPath", "message")) for rule in flat[VALIDATIONS]]
    return _in_order(flat, _KEPT)


def _in_order(schema: JsonSchema, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the entries of `schema` that `keys` has, in its order."""
    return {key: schema[key] for key in keys if key in schema}


def _property(
    schema: JsonSchema, definitions: Mapping[str, JsonSchema], path: str, *, required: bool
) -> dict[str, Any]:
    result = structural(schema, definitions, path)
    if result.get("default", ...) in (None, [], {}):
        del result["default"]
    is_structure = "$ref" in schema and "properties" in result
    if is_structure and not required and any("default" in field for field in result["properties"].values()):
        result["default"] = {}
    return _in_order(result, _KEPT)


def _resolved(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> dict[str, Any]:
    """Return `schema` with its reference written out; what stands beside the reference wins, rules add up."""
    if "$ref" not in schema:
        return dict(schema)
    name = schema["$ref"].removeprefix("#/$defs/")
    target = _resolved(definitions[name], definitions)
    merged = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    validations = [*target.get(VALIDATIONS, ()), *schema.get(VALIDATIONS, ())]
    return {**merged, VALIDATIONS: validations} if validations else merged


def _without_null(schema: JsonSchema, definitions: Mapping[str, JsonSchema], path: str) -> dict[str, Any]:
    """Return `X | None` as X: leaving a field out is how one says nothing."""
    if "anyOf" not in schema or "x-kubernetes-int-or-string" in schema:
        return dict(schema)
    choices = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
    if len(choices) != 1:
        raise UnsupportedSchema(f"{path} is a union of {len(choices)} types")
    beside = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**_resolved(choices[0], definitions), **beside}


def _schema_of(structure: type[Spec] | type[LLMServiceStatus], description: str) -> dict[str, Any]:
    json_schema = structure.model_json_schema(by_alias=True)
    return {**structural(json_schema, json_schema.get("$defs", {})), "description": description}


def manifest() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    schema = {
        "description": "LLMService serves one language model: the operator caches it, runs its replicas and keeps a "
        "Service of the same name in front of them.",
        "type": "object",
        "required": ["spec"],
        VALIDATIONS: [dict(NAME_RULE)],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Version of the API: {names.API_VERSION}."},
            "kind": {"type": "string", "description": f"Kind of the object: {names.KIND}."},
            "metadata": {"type": "object"},
            "spec": _schema_of(
                Spec, "What is asked for: a model, and where the defaults do not fit, how it is served."
            ),
            "status": {
                **_schema_of(LLMServiceStatus, "What the operator reports. Only the operator writes it."),
                "default": {},
            },
        },
    }
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [dict(column) for column in PRINTER_COLUMNS],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": names.CRD_NAME},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": names.LIST_KIND,
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": list(names.SHORT_NAMES),
                "categories": list(names.CATEGORIES),
            },
            "versions": [version],
        },
    }


class _PlainDumper(yaml.SafeDumper):
    """YAML without anchors: a value that occurs twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """Return the manifest as the text of crds/llmservice.yaml."""
    header = "# Generated from operator/llmservice_operator/schema by `make crd`; edit the schema instead.\n"
    return header + yaml.dump(manifest(), Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)
