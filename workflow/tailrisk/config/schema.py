"""The JSON schema and the reference of the configuration, generated from its models."""

import json
from typing import Any, get_args

from tailrisk.config.sources import AnySource, Source
from tailrisk.config.study import Study

MARK = "<!-- Everything below is written by `tailrisk schema`. -->\n"
SOURCES: dict[str, type[Source]] = {model.__name__: model for model in get_args(get_args(AnySource)[0])}
"""Sources by the name of their section in the schema."""


def schema_text() -> str:
    """The schema as committed under workflow/schemas."""
    schema = Study.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Patient-level privacy audit: configuration"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """One table of keys per section of the configuration, in Markdown."""
    schema = Study.model_json_schema()
    sections = {"Study": schema, **schema["$defs"]}
    return MARK + "".join(_section(name, section) for name, section in sections.items())


def _section(name: str, section: dict[str, Any]) -> str:
    properties = section.get("properties", {})
    tag = next((f"`{key}: {value['const']}`" for key, value in properties.items() if "const" in value), "")
    required = section.get("required", [])
    lines = [f"\n### {tag or name}\n", f"\n{' '.join(section['description'].split())}\n"]
    source = SOURCES.get(name)
    if source and source.access:
        lines.append(f"\n- Access: {source.access}\n- Terms: {source.terms}.\n")
    rows = [(key, value) for key, value in properties.items() if "const" not in value]
    if rows:
        lines.append("\n| key | default | meaning |\n| --- | --- | --- |\n")
    for key, value in rows:
        default = "required" if key in required else f"`{json.dumps(value.get('default'))}`"
        if isinstance(value.get("default"), dict):
            default = "see below"
        lines.append(f"| `{key}` | {default} | {value['description']} |\n")
    return "".join(lines)
