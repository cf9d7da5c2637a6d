"""The JSON Schema of ``pipeline.yml``, for editors."""

from __future__ import annotations

from typing import Any

from tidemill.spec.models import SOURCE_FORMATS, Pipeline

VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a spec; a variable may stand wherever a number or a fixed word is wanted."""
    schema = _with_variables(Pipeline.model_json_schema(by_alias=True))
    schema["$defs"]["Source"]["properties"]["format"]["examples"] = list(SOURCE_FORMATS)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "tidemill pipeline"}


def _with_variables(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_variables(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: value if key in ("default", "enum", "required") else _with_variables(value) for key, value in schema.items()}
    is_plain = schema.get("type") in ("integer", "number", "boolean") or "enum" in schema or "pattern" in schema
    if not is_plain or not isinstance(schema.get("type", "string"), str):
        return parts
    about = {key: parts.pop(key) for key in ("title", "description", "default") if key in parts}
    return {**about, "anyOf": [parts, VARIABLE]}
