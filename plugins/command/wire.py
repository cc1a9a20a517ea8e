"""Turns the engine's property structs into Python values and back without losing secrets, unknowns or asset hashes.

The SDK's own `PropertyValue` drops the hash of an asset, by which a changed file is noticed, and cannot answer
with unknown values in a preview.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf import struct_pb2
from pulumi.runtime import rpc

SIGNATURE = rpc._special_sig_key
SECRET = rpc._special_secret_sig
ASSET = rpc._special_asset_sig
ARCHIVE = rpc._special_archive_sig

UNKNOWN = rpc.UNKNOWN
"""The text that stands for a string not known before the real update."""

# Source: the Unknown…Value constants in pulumi/sdk/go/common/resource/plugin/rpc.go; one for each type.
UNKNOWNS = frozenset(
    {
        UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)

Value: TypeAlias = "bool | float | str | list[Any] | dict[str, Any] | Secret | None"
"""A property. Assets and archives stay the dictionaries they are on the wire, signature and hash included."""

Properties: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Secret:
    """A value that the engine encrypts in its state and hides in its output."""

    value: Any


def is_unknown(value: Value) -> bool:
    """Whether the value is known only after something else was made."""
    return isinstance(value, str) and value in UNKNOWNS


def plain(value: Value) -> Any:
    """The value without any mark of a secret, at any depth."""
    if isinstance(value, Secret):
        return plain(value.value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def unmarshal(struct: struct_pb2.Struct) -> Properties:
    """Properties as they came from the engine."""
    return {key: _unmarshal_value(value) for key, value in struct.fields.items()}


def marshal(properties: Properties) -> struct_pb2.Struct:
    """Properties as the engine reads them."""
    return struct_pb2.Struct(fields={key: _marshal_value(value) for key, value in properties.items()})


def _unmarshal_value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "bool_value":
        return value.bool_value
    if kind == "number_value":
        return value.number_value
    if kind == "string_value":
        return value.string_value
    if kind == "list_value":
        return [_unmarshal_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        fields = value.struct_value.fields
        if SIGNATURE in fields and fields[SIGNATURE].string_value == SECRET:
            return Secret(_unmarshal_value(fields["value"]))
        return unmarshal(value.struct_value)
    return None


def _marshal_value(value: Value) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, (int, float)):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, list):
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[_marshal_value(item) for item in value]))
    if isinstance(value, Secret):
        return struct_pb2.Value(struct_value=marshal({SIGNATURE: SECRET, "value": value.value}))
    return struct_pb2.Value(struct_value=marshal(value))
