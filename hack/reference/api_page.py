"""docs/api.md: every field of an LLMService with its type, bounds, default and rules, from the generated CRD."""

from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_operator import crd, names

Schema = Mapping[str, Any]

_INTRODUCTION = f"""\
# The LLMService resource

`{names.API_VERSION}`, kind `{names.KIND}`, short names {", ".join(f"`{name}`" for name in names.SHORT_NAMES)}.
`kubectl explain llmservice.spec --recursive` shows the same. This page is generated from the schema.

A field that names the profile as its default gets its value from the operator's configuration, where an administrator
sets it. Rules are checked by the API server when the resource is applied; their text is what it answers.
"""


def render() -> str:
    """Return the page."""
    root = crd.manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = f"\nA rule for the name: {root['x-kubernetes-validations'][0]['message']}.\n"
    parts = ("spec", "status")
    sections = (section for part in parts for section in _sections(part, root["properties"][part]))
    return _INTRODUCTION + rules + "".join(sections)


def _sections(path: str, schema: Schema) -> Iterator[str]:
    """Return a section for the object at `path` and for each object below it."""
    yield f"\n## {path}\n\n{schema.get('description', '')}\n\n{_table(path, schema)}{_rules(schema)}"
    for name, field in schema["properties"].items():
        below = _object(field)
        if below is not None:
            yield from _sections(f"{path}.{name}" + ("[]" if "items" in field else ""), below)


def _object(field: Schema) -> Schema | None:
    """Return the schema of the object that a field holds, itself or in a list; None for other fields."""
    held = field.get("items", field)
    return held if "properties" in held else None


def _table(path: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        f"| {_linked(path, name, field)}{' (required)' if name in required else ''} | {_type(field)} "
        f"| {_cell(field['description'])}{_field_rules(field)} |\n"
        for name, field in schema["properties"].items()
    ]
    return "| field | type | meaning |\n|---|---|---|\n" + "".join(rows)


def _linked(path: str, name: str, field: Schema) -> str:
    if _object(field) is None:
        return f"`{name}`"
    heading = f"{path}.{name}" + ("[]" if "items" in field else "")
    anchor = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "-_")
    return f"[`{name}`](#{anchor})"


def _type(field: Schema) -> str:
    """Return a type with its bounds in words."""
    if "items" in field:
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map to {_type(field['additionalProperties'])}"
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    named = "time" if field.get("format") == "date-time" else field["type"]
    return f"{named}{_bounds(field)}"


def _bounds(field: Schema) -> str:
    match field.get("minimum"), field.get("maximum"):
        case None, None:
            pass
        case least, None:
            return f", at least {least}"
        case least, most:
            return f", {least} to {most}"
    if "maxLength" not in field:
        return ""
    pattern = f", `{_cell(field['pattern'])}`" if "pattern" in field else ""
    return f", at most {field['maxLength']} characters{pattern}"


def _rules(schema: Schema) -> str:
    rules = schema.get("x-kubernetes-validations", ())
    return "".join(["\n", *(f"- Rule: {rule['message']}.\n" for rule in rules)]) if rules else ""


def _field_rules(field: Schema) -> str:
    """Return the rules of a plain field; those of an object stand in its own section."""
    if _object(field) is not None:
        return ""
    inner = field.get("items", field.get("additionalProperties", {}))
    rules = [*field.get("x-kubernetes-validations", ()), *inner.get("x-kubernetes-validations", ())]
    return "".join(f" Rule: {_cell(rule['message'])}." for rule in rules)


def _cell(text: str) -> str:
    """Return text for a cell of a table: on one line, without a bar."""
    return " ".join(text.split()).replace("|", "\\|")
