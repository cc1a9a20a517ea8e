"""The reference of every configuration key, from the schema of the model."""

import json
from collections.abc import Iterator
from typing import Any

from stacks.configuration import NAMESPACE, SECRET_KEYS
from tools.generate import schema

HEAD = f"""# Settings

Every key of the namespace `{NAMESPACE}` in a stack file, from the model that refuses everything else
([stacks/model.py](../../stacks/model.py)). `make generate` writes this page. A key without a default and without "required" may
be left out and then has no value. Rules over several keys are not in these tables: a preview names the keys, the reason and
the remedy. Editors with a YAML language server complete and check stack files by [stacks/schema.json](../../stacks/schema.json);
`make new-stack` writes a new stack file from a few answers.

Lists are written `key[]`, keys of the user's own choosing `key.*`. Set one value from the shell:

<!-- runs: engine -->
```sh
pulumi config set --path '{NAMESPACE}:kata.kernelParams[0]' sysctl.user.max_user_namespaces=20000 --stack local
```
"""


def cell(text: str) -> str:
    """Within a table."""
    return text.replace("|", "\\|")


def alternatives(node: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, without null, which is the same as leaving the key out."""
    return [alternative for alternative in node.get("anyOf", [node]) if alternative.get("type") != "null"]


def kind(node: dict[str, Any]) -> str:
    """Type of a value, in words."""
    words = []
    for alternative in alternatives(node):
        if "enum" in alternative or "const" in alternative:
            words += [f"`{value}`" for value in alternative.get("enum", [alternative.get("const")])]
        elif "$ref" in alternative or "properties" in alternative:
            words.append("keys below")
        elif alternative.get("type") == "array":
            words.append(f"list of {'entries' if '$ref' in alternative['items'] else kind(alternative['items'])}")
        elif alternative.get("type") == "object":
            words.append("text by key" if alternative.get("additionalProperties") is not True else "anything by key")
        else:
            words.append({"string": "text", "integer": "whole number", "boolean": "true or false"}[alternative["type"]])
    return " or ".join(words)


def bounds(node: dict[str, Any]) -> str:
    """Bounds of a value, of a list's length, or of its entries."""
    words = []
    for alternative in alternatives(node):
        inner = alternative.get("items", {})
        for part in (alternative, inner):
            if "minimum" in part or "maximum" in part:
                words.append(f"{part.get('minimum', '')} to {part.get('maximum', '')}".strip())
            if "pattern" in part:
                words.append(f"`{part['pattern']}`")
        if "minItems" in alternative:
            words.append(f"{alternative['minItems']} entry or more")
        if "minLength" in alternative and "pattern" not in alternative:
            words.append("not empty")
    return ", ".join(dict.fromkeys(words))


def rows(path: str, node: dict[str, Any], required: bool, definitions: dict[str, Any]) -> Iterator[str]:
    """A row for the key at `path`, then those below it."""
    below = []
    for alternative in alternatives(node):
        inner = alternative.get("items", alternative)
        if "$ref" in inner:
            below.append((f"{path}[]" if inner is not alternative else path, definitions[inner["$ref"].rpartition("/")[2]]))
        elif alternative.get("type") == "object":
            path += ".*"
    meaning = node.get("description") or " ".join(definition["description"] for _, definition in below)
    default = "**required**" if required else ""
    if "default" in node and not isinstance(node["default"], dict):
        default = f"`{json.dumps(node['default']) if not isinstance(node['default'], str) else node['default']}`"
    yield f"| `{path}` | {kind(node)} | {cell(default)} | {cell(bounds(node))} | {cell(meaning)} |"
    for prefix, definition in below:
        for key, value in definition["properties"].items():
            yield from rows(f"{prefix}.{key}", value, key in definition.get("required", []), definitions)


def text() -> str:
    """Content of docs/reference/settings.md."""
    document = schema.of_model()
    parts = [HEAD]
    for section, node in document["properties"].items():
        table = ["| key | type | default | bounds | meaning |", "| --- | --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {section}\n", *table, *rows(section, node, False, document["definitions"])]) + "\n")
    secrets = [f"| `{key}` | {cell(meaning)} |" for key, meaning in SECRET_KEYS.items()]
    intro = f"Each is a key of its own: `pulumi config set --secret {NAMESPACE}:KEY`.\n"
    parts.append("\n".join(["## Secrets\n", intro, "| key | meaning |", "| --- | --- |", *secrets]) + "\n")
    return "\n".join(parts)
