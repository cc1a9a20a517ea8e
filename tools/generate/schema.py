"""The JSON Schema of whole stack files, from the model that refuses them at preview, for editors."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from stacks.configuration import NAMESPACE, SECRET_KEYS
from stacks.model import StackConfig

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The draft that every editor's YAML server reads."""


class Untitled(GenerateJsonSchema):
    """Without titles, which would only repeat the keys in other letters."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Never."""
        return False


def of_model() -> dict[str, Any]:
    """Schema of the configuration's sections: `properties` by section, `definitions` by model."""
    template = "#/definitions/{model}"
    document: dict[str, Any] = tidy(StackConfig.model_json_schema(ref_template=template, schema_generator=Untitled))
    return {"properties": document["properties"], "definitions": document["$defs"]}


def tidy(node: Any) -> Any:
    """Descriptions in one line; no default where there is none."""
    if isinstance(node, list):
        return [tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {key: tidy(value) for key, value in node.items() if not (key == "default" and value is None)}
    if isinstance(schema.get("description"), str):
        schema["description"] = " ".join(schema["description"].split())
    return schema


def of_stack_file() -> dict[str, Any]:
    """Schema of a `Pulumi.<stack>.yaml` (pulumi.com, "Pulumi stack configuration file reference")."""
    sections = of_model()
    secure = {"secure": {"type": "string", "description": "What `pulumi config set --secret` wrote."}}
    secrets = {
        f"{NAMESPACE}:{key}": {
            "description": f"{meaning} A secret: pulumi config set --secret {NAMESPACE}:{key}",
            "type": "object",
            "properties": secure,
            "required": ["secure"],
            "additionalProperties": False,
        }
        for key, meaning in SECRET_KEYS.items()
    }
    return {
        "$schema": DIALECT,
        "title": "Stack file of kata-nodes",
        "type": "object",
        "properties": {
            "config": {
                "description": "The stack's configuration.",
                "type": "object",
                "properties": {f"{NAMESPACE}:{key}": value for key, value in sections["properties"].items()} | secrets,
                # Other namespaces belong to providers (aws:region) and to the engine (pulumi:tags).
                "patternProperties": {f"^(?!{NAMESPACE}:)[^:]+:.+$": {}},
                "additionalProperties": False,
            },
            "encryptionsalt": {"type": "string", "description": "Salt of the stack's passphrase; Pulumi writes it."},
            "encryptedkey": {"type": "string", "description": "Key of the stack's secrets, encrypted by secretsprovider."},
            "secretsprovider": {"type": "string", "description": "Who encrypts the stack's secrets."},
            "environment": {"type": ["array", "object"], "description": "Pulumi ESC environments that the stack imports."},
        },
        "additionalProperties": False,
        "definitions": sections["definitions"],
    }


def text() -> str:
    """Content of stacks/schema.json."""
    return json.dumps(of_stack_file(), indent=1) + "\n"
