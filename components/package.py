"""The Pulumi package kata-nodes, by which programs in every language use the components: what it publishes, schema, provider."""

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.errors import InputPropertiesError, InputPropertyError
from pulumi.provider.experimental.analyzer import PropertyDefinition, PropertyType
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.experimental.util import camel_case
from pulumi.provider.server import ComponentInitError

from components.arguments import ArgumentError, instead
from nodekit.rules.text import printable

NAME = "kata-nodes"
HERE = Path(__file__).resolve().parent
PROGRAM = "components.__main__"
"""What the engine starts."""
OF_THIS_CHECKOUT = "Local"
"""Components whose names begin so run programs of a checkout with parts that are built for it. An installed package lacks these,
so the components are not in it."""


def version() -> str:
    """Of the package, as PulumiPlugin.yaml gives it."""
    return str(yaml.safe_load((HERE / "PulumiPlugin.yaml").read_text())["version"])


def components() -> list[type[pulumi.ComponentResource]]:
    """Every component resource of this folder and those below it, in name order."""
    components = []
    for entry in pkgutil.walk_packages([str(HERE)], "components."):
        if entry.name != PROGRAM:
            module = importlib.import_module(entry.name)
            classes = [
                member for member in vars(module).values() if inspect.isclass(member) and member.__module__ == module.__name__
            ]
            components += [member for member in classes if issubclass(member, pulumi.ComponentResource)]
    return sorted(components, key=lambda component: component.__name__)


def published() -> list[type[pulumi.ComponentResource]]:
    """The components that the package offers."""
    return [component for component in components() if not component.__name__.startswith(OF_THIS_CHECKOUT)]


def metadata() -> dict[str, Any]:
    """What the Pulumi Registry shows of the package (keys of the package schema), except for the addresses of the repository that
    publishes it: a release adds them (tools/published_schema.py)."""
    return {
        "displayName": "Kata Nodes",
        "description": str(yaml.safe_load((HERE / "PulumiPlugin.yaml").read_text())["description"]),
        "keywords": ["kata-containers", "sandbox", "kubernetes", "docker", "category/infrastructure", "kind/component"],
        "license": "Apache-2.0",
    }


class PackageProvider(ComponentProvider):
    """Hosts components as `component_provider_host` does, and also what that one does not support yet (3.259).

    It refuses or loses a whole number or an object that is an output of another resource, and objects in a list of outputs keep
    Python's names. Beyond that, a plain argument that is an output is refused here: it decides which resources there are, and an
    output would count as true whatever it holds. And text that a YAML program wrote without quotes is made text again: Pulumi's
    YAML lets numbers and booleans pass for it, and sends them as they are.
    """

    def map_input_properties(
        self,
        inputs: Any,
        properties: dict[str, PropertyDefinition],
        mapping: dict[str, str],
        component_name: str,
        property_path: str,
    ) -> Any:
        """The inputs under Python's names; raises InputPropertyError naming the property."""

        def mapped(values: Any, which: dict[str, PropertyDefinition]) -> Any:
            return ComponentProvider.map_input_properties(self, values, which, mapping, component_name, property_path)

        if isinstance(inputs, pulumi.Output):
            return inputs.apply(
                lambda known: self.map_input_properties(known, properties, mapping, component_name, property_path)
            )
        self._refuse_unknown(inputs, properties, component_name, property_path)
        for key, definition in properties.items():
            path = f"{property_path}.{key}" if property_path else key
            if definition.plain:
                self._refuse_outputs(inputs.get(key), definition, path, component_name)
            self._refuse_shapes(inputs.get(key), definition, path, component_name)
        inputs = {key: texts(value, properties[key]) if key in properties else value for key, value in inputs.items()}
        later = {key: inputs[key] for key in properties if isinstance(inputs.get(key), pulumi.Output)}
        result = mapped(inputs, {key: definition for key, definition in properties.items() if key not in later})
        for key, value in later.items():

            def known(inner: Any, key: str = key) -> Any:
                path = f"{property_path}.{key}" if property_path else key
                self._refuse_shapes(inner, properties[key], path, component_name)
                return mapped({key: inner}, {key: properties[key]}).get(mapping[key])

            result[mapping[key]] = value.apply(known)
        return result

    def _refuse_unknown(
        self, inputs: Any, properties: Mapping[str, PropertyDefinition], component_name: str, property_path: str
    ) -> None:
        """Refuse a key that the schema does not have, which the SDK passes over, and which some languages do not check."""
        for key in inputs if isinstance(inputs, dict) else ():
            if key not in properties:
                path = printable(f"{property_path}.{key}" if property_path else key, 160)
                raise InputPropertyError(
                    path, f"'{path}' of {component_name}: there is no such key. {instead(key, [*properties])}"
                )

    def _refuse_outputs(self, value: Any, definition: PropertyDefinition, path: str, component_name: str) -> None:
        """Refuse an output as a plain value, or in a plain list: how many there are is known, but not what each of them names."""
        if isinstance(value, pulumi.Output):
            kind = "a record, whose keys may be outputs of other resources," if definition.ref else "a plain value,"
            raise InputPropertyError(
                path, f"'{path}' of {component_name} must be {kind} not a secret or another resource's output"
            )
        if isinstance(value, list) and definition.items and definition.items.plain:
            for number, item in enumerate(value):
                self._refuse_outputs(item, definition.items, f"{path}[{number}]", component_name)

    def _refuse_shapes(self, value: Any, definition: PropertyDefinition, path: str, component_name: str) -> None:
        """Refuse what the SDK takes for an empty record, and what it makes no whole number of, at which it would end itself."""
        if value is None or isinstance(value, pulumi.Output):
            return
        words = ""
        if definition.ref and self.get_type_definition(definition) and not isinstance(value, dict):
            words = "an object with keys of its own"
        elif definition.type == PropertyType.INTEGER:
            try:
                int(value)
            except (TypeError, ValueError, OverflowError):
                words = "a whole number"
        if words:
            raise InputPropertyError(path, f"'{path}' of {component_name} must be {words}")
        if isinstance(value, list) and definition.items:
            for number, item in enumerate(value):
                if item is None and definition.items.ref:
                    raise InputPropertyError(path, f"'{path}[{number}]' of {component_name} holds nothing")
                self._refuse_shapes(item, definition.items, f"{path}[{number}]", component_name)

    def construct(self, name: str, resource_type: str, inputs: Any, options: pulumi.ResourceOptions | None = None) -> Any:
        """The component; raises InputPropertiesError where it refuses arguments, as its URN and outputs then do: the SDK would
        show RunError with a traceback, or as an unexpected error of Python's."""
        try:
            result = super().construct(name, resource_type, inputs, options)
        except ComponentInitError as error:
            if isinstance(error.inner, pulumi.RunError):
                raise refusal(error.inner) from None
            raise
        # Without a URN where the component's own inputs, such as a plan, hold what is refused.
        result.urn = refusing(pulumi.Output.from_input(result.urn))
        result.state = {
            key: refusing(value) if isinstance(value, pulumi.Output) else value for key, value in result.state.items()
        }
        return result

    def get_state(self, instance: pulumi.ComponentResource, component_def: Any) -> dict[str, Any]:
        """The outputs under the schema's names."""
        state = super().get_state(instance, component_def)
        for key, value in state.items():
            items = component_def.outputs[key].items
            if items and items.ref and (kind := self.get_type_definition(items)):

                def listed(all_of: Any, kind: Any = kind) -> Any:
                    return [self.map_complex_output(item, kind) for item in all_of]

                # Outside an output each secret stays one of its own; inside, the list is secret as soon as one of its parts is.
                state[key] = value.apply(listed) if isinstance(value, pulumi.Output) else listed(value)
        return state


def refusal(error: Exception) -> InputPropertiesError:
    """The error that the engine shows with nothing added. Of one without a list of errors, the SDK would show that its own answer
    lacks `trailing_metadata`, and not a word of the error."""
    return InputPropertiesError(error.spelled(camel_case) if isinstance(error, ArgumentError) else str(error), [])


def refusing(value: pulumi.Output[Any]) -> pulumi.Output[Any]:
    """The output, which raises InputPropertiesError where it would raise RunError."""

    async def known() -> pulumi.Output[Any]:
        try:
            await value.future()
        except pulumi.RunError as error:
            raise refusal(error) from None
        return value

    return pulumi.Output.from_input(known())


def texts(value: Any, definition: PropertyDefinition) -> Any:
    """The value, with text where the schema has text: of a number or boolean, what a person wrote."""
    if isinstance(value, pulumi.Output):
        return value.apply(lambda known: texts(known, definition))
    if definition.type == PropertyType.STRING and isinstance(value, bool | int | float):
        return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
    if isinstance(value, list) and (items := definition.items):
        return [texts(item, items) for item in value]
    if isinstance(value, dict) and (values := definition.additional_properties):
        return {key: texts(item, values) for key, item in value.items()}
    return value


def described(schema: Any) -> Any:
    """The schema with its descriptions as Markdown, in which an indented paragraph is code.

    The SDK takes a doc string as it is, and Python keeps its indentation up to 3.12.
    """
    if isinstance(schema, dict):
        return {
            key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else described(value)
            for key, value in schema.items()
        }
    return [described(item) for item in schema] if isinstance(schema, list) else schema


def provider() -> PackageProvider:
    """The package's provider."""
    result = PackageProvider(published(), NAME, version=version())
    result.schema = json.dumps({**described(json.loads(result.schema or "")), **metadata()})
    return result


def schema() -> str:
    """The package's schema as schema.json holds it: JSON with its keys in order, so that a diff shows only what changed."""
    return json.dumps(json.loads(provider().schema or ""), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
