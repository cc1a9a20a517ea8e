"""Arguments as programs hand them on: from a setting that is not set, from other resources, and from secrets.

Lost if these fail: the defaults, so that a pod gets a token for the API server; and an `up` without a traceback.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from unittest import mock

import pulumi
import pytest
from pulumi.provider.experimental.analyzer import PropertyDefinition

from components import package
from components.cluster import kata_node_labels, kata_proof
from tests.components.recorder import run
from tests.package.programs import PROGRAMS, TwoNodes

pytestmark = pytest.mark.slow

PROVIDER = package.provider()
COMPONENTS = {component.__name__: component for component in package.published()}
DECIDING = ("public_key", "sudo_password", "nodes", "node_selector", "handler")
"""Arguments whose place in the program decides, beside their values, which resources there are or what is sent."""

Place = tuple[str, ...]


def optional(properties: Mapping[str, PropertyDefinition], names: Mapping[str, str], above: Place = ()) -> Iterator[Place]:
    """Every optional argument of a component, and of its records that can be without any key."""
    for key, definition in properties.items():
        place = (*above, names[key])
        if definition.optional:
            yield place
        record = PROVIDER.get_type_definition(definition) if definition.ref else None
        if record and (above == () or not any(not each.optional for each in record.properties.values())):
            yield from optional(record.properties, record.properties_mapping, place)


def placed(args: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """The arguments with a value in that place."""
    first, *rest = place
    return {**args, first: placed(args.get(first) or {}, tuple(rest), value) if rest else value}


def without(args: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The arguments with nothing in that place."""
    first, *rest = place
    if rest and first in args:
        return {**args, first: without(args[first], tuple(rest))}
    return {key: value for key, value in args.items() if rest or key != first}


@cache
def registered(component: str) -> Any:
    """What the fixed program registers."""
    return outcome(component, lambda: PROGRAMS[component][0])


def outcome(component: str, args: Any) -> Any:
    """What a program with this one component registers, or the refusal of it; `args` are made within the program."""
    reader = mock.patch.object(kata_proof, "reader", lambda args, kubeconfig: TwoNodes())
    with reader, mock.patch.object(kata_node_labels, "cluster", lambda kubeconfig, context: TwoNodes()):
        try:
            resources = run(lambda: COMPONENTS[component]("it", args())).by_name
        except pulumi.RunError as error:
            return str(error)
    return {
        name: {key: value for key, value in resource.inputs.items() if not isinstance(value, pulumi.Asset)}
        for name, resource in resources.items()
    }


RECORDS = ("docker", "kata", "verification")
"""Records that pools hand on to KataNode, of which it alone is tried."""
PLACES = [
    (name, place)
    for name in sorted(COMPONENTS)
    for definition in [PROVIDER._component_defs[name]]
    for place in optional(definition.inputs, definition.inputs_mapping)
    if len(place) == 1 or (place[0] in RECORDS and name == "KataNode") or place[0] in PROGRAMS[name][0]
]


def is_plain(component: str, place: Place) -> bool:
    """Whether the schema lets no output be in that place."""
    properties, names = PROVIDER._component_defs[component].inputs, PROVIDER._component_defs[component].inputs_mapping
    for key in place:
        (definition,) = (each for schema_key, each in properties.items() if names[schema_key] == key)
        if definition.ref and (record := PROVIDER.get_type_definition(definition)):
            properties, names = record.properties, record.properties_mapping
    return bool(definition.plain)


@pytest.mark.parametrize(("component", "place"), PLACES, ids=lambda value: value if isinstance(value, str) else ".".join(value))
def test_argument_that_comes_to_nothing_is_one_left_out(component: str, place: Place) -> None:
    args = PROGRAMS[component][0]
    shorter = without(args, place)
    expected = registered(component) if shorter == args else outcome(component, lambda: shorter)
    assert outcome(component, lambda: placed(args, place, None)) == expected
    if place[-1] not in DECIDING and not is_plain(component, place):
        assert outcome(component, lambda: placed(args, place, pulumi.Output.from_input(None))) == expected


def handed_on(args: Mapping[str, Any], properties: Mapping[str, PropertyDefinition], names: Mapping[str, str], make: Any) -> Any:
    """The arguments, with what `make` makes of each that need not be plain."""
    keys, values = {name: key for key, name in names.items()}, {}
    for name, value in args.items():
        definition = properties[keys[name]]
        items = definition.items
        record = PROVIDER.get_type_definition(definition) if definition.ref else None
        entry = PROVIDER.get_type_definition(items) if items and items.ref else None
        if record:
            value = handed_on(value, record.properties, record.properties_mapping, make)
        elif entry:
            value = [handed_on(each, entry.properties, entry.properties_mapping, make) for each in value]
        elif not definition.plain:
            value = make(value)
        values[name] = value
    return values


@pytest.mark.parametrize("make", [pulumi.Output.from_input, pulumi.Output.secret], ids=["output", "secret"])
@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_outputs_and_secrets_make_the_same_as_plain_values(component: str, make: Any) -> None:
    definition = PROVIDER._component_defs[component]
    for args in PROGRAMS[component]:

        def later(args: Any = args) -> Any:
            return handed_on(args, definition.inputs, definition.inputs_mapping, make)

        assert outcome(component, later) == outcome(component, lambda args=args: args)


def test_rollout_without_values_has_its_defaults() -> None:
    machines = [{**PROGRAMS["ExistingNodes"][0]["hosts"][0], "name": name, "address": name} for name in "abc"]
    args = {"hosts": machines, "kata": {"handler": {"name": "kata"}}, "rollout": {"kubeconfig": "{}"}}
    expected = outcome("ExistingNodes", lambda: args)
    for key in ("context", "canary", "batch", "drain_seconds", "evict_bare_pods"):
        assert outcome("ExistingNodes", lambda key=key: placed(args, ("rollout", key), None)) == expected
