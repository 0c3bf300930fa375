"""The generated CRD: equal to the committed file, structural, described; and the converter that makes it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from llmservice_operator import crd

CRD_FILE = Path(__file__).parents[3] / "crds" / "llmservice.yaml"

# Keywords of apiextensions.k8s.io/v1 JSONSchemaProps that the API server accepts in a structural schema and acts on.
SUPPORTED_KEYWORDS = {
    "additionalProperties",
    "anyOf",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


@cache
def schema() -> dict[str, Any]:
    root: dict[str, Any] = crd.manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every schema below and including `node`, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], f"{path}.*")


def test_the_committed_file_is_what_the_schema_generates() -> None:
    assert CRD_FILE.read_text() == crd.render(), "run `make crd`"


def test_generating_twice_gives_the_same_text() -> None:
    text = crd.render()
    assert text == crd.render()
    assert yaml.safe_load(text) == crd.manifest()


def test_only_keywords_of_structural_schemas_appear() -> None:
    for path, node in nodes(schema()):
        assert node.keys() <= SUPPORTED_KEYWORDS, path


def test_every_value_has_a_type_or_is_an_int_or_string() -> None:
    for path, node in nodes(schema()):
        assert ("type" in node) != node.get("x-kubernetes-int-or-string", False), path


def test_every_field_is_described_and_every_field_of_the_spec_has_an_example_or_a_default() -> None:
    for path, node in nodes(schema()):
        name = path.rpartition(".")[2]
        if path in ("", ".metadata") or name.endswith(("[]", "*")):
            continue
        assert node.get("description"), path
        if path.startswith(".spec."):
            assert "Example: " in node["description"] or "Default: " in node["description"], path


def test_default_of_a_description_is_the_default_of_the_schema() -> None:
    for path, node in nodes(schema()["properties"]["spec"]):
        if node.get("default", {}) not in ({}, ""):
            written = str(node["default"]).lower() if isinstance(node["default"], bool) else node["default"]
            assert f"Default: {written}" in node["description"], path


def test_a_default_below_an_optional_object_is_reached_from_the_spec() -> None:
    for path, node in nodes(schema()["properties"]["spec"]):
        required = node.get("required", ())
        for name, child in node.get("properties", {}).items():
            fields = child.get("properties", {})
            inner = {field for field in fields if "default" in fields[field]}
            if inner and name not in required and not child.get("required"):
                assert child.get("default") == {}, f"{path}.{name}"


def test_lists_say_how_they_merge() -> None:
    for path, node in nodes(schema()):
        if node.get("type") == "array":
            assert node["x-kubernetes-list-type"] in {"atomic", "set", "map"}, path


def test_texts_and_lists_of_the_spec_are_bounded() -> None:
    for path, node in nodes(schema()["properties"]["spec"]):
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_the_status_keeps_the_fields_of_a_newer_operator() -> None:
    for path, node in nodes(schema()["properties"]["status"]):
        if "properties" in node and path != ".conditions[]":
            assert node["x-kubernetes-preserve-unknown-fields"] is True, path


class Inner(BaseModel):
    """An inner structure."""

    depth: int = 2


class Outer(BaseModel):
    """What the converter's test converts."""

    inner: Inner = Field(default_factory=Inner, description="Beside the reference.")
    maybe: Inner | None = None
    kind: Literal["One"] = "One"
    names: tuple[Annotated[str, Field(max_length=3)], ...] = ()


def test_the_converter_writes_references_out_and_drops_null() -> None:
    json_schema = Outer.model_json_schema()
    assert crd.structural(json_schema, json_schema["$defs"]) == {
        "description": "What the converter's test converts.",
        "type": "object",
        "properties": {
            "inner": {
                "description": "Beside the reference.",
                "type": "object",
                "default": {},
                "properties": {"depth": {"type": "integer", "default": 2}},
            },
            "maybe": {
                "description": "An inner structure.",
                "type": "object",
                "properties": {"depth": {"type": "integer", "default": 2}},
            },
            "kind": {"type": "string", "enum": ["One"], "default": "One"},
            "names": {"type": "array", "items": {"type": "string", "maxLength": 3}},
        },
    }


@pytest.mark.parametrize(
    ("json_schema", "message"),
    [
        pytest.param({"properties": {"a": {"patternProperties": {}}}}, ".a uses patternProperties", id="keyword"),
        pytest.param(
            {"properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}},
            ".a is a union of 2 types",
            id="union",
        ),
    ],
)
def test_the_converter_refuses_what_has_no_structural_form(json_schema: dict[str, Any], message: str) -> None:
    with pytest.raises(crd.UnsupportedSchema, match=message):
        crd.structural(json_schema, {})
