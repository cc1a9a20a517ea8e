"""What happens to a node or an object, in words that a reviewer can judge."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from delivery import login
from nodekit.rules.shapes import entries
from review.documents import SECRET, UNKNOWN, Resource
from review.neutral import SECRET_NAME, code, resource_type

NODE = "kata-nodes:index:KataNode"
GROUP = "kata-nodes:index:AwsNodeGroup"
CLUSTER_PROOF = "kata-nodes:index:KataProof"
POOL, INSTANCE, LOGIN_KEY = "kata-nodes:index:AwsNodes", "aws:ec2/instance:Instance", "aws:ec2/keyPair:KeyPair"
"""A pool on AWS, a machine of it, named after its node (components/aws/nodes.py), and the login key of all of them."""
PATHS_SHOWN = 6
"""Changed fields of one object that are shown."""
NAMES_SHOWN = 20
"""Nodes, or parameters, that are named in one line."""
VERBS = {"create": "create", "update": "change", "replace": "replace", "delete": "delete", "changed": "changed:", "gone": "gone:"}
"""What happens to a resource -> how its line begins; the last two are for a page about drift."""
COUNTS = {op: word.rstrip(":") if word.endswith(":") else f"to {word}" for op, word in VERBS.items()}
LABELS = {
    "dockerVersion": "Docker",
    "kataVersion": "Kata",
    "kataRuntime": "Kata's runtime",
    "hypervisor": "hypervisor",
    "nestedSandbox": "nested sandbox",
    "handler": "handler",
    "containerRuntime": "container runtime",
}
"""Keys of a node's plan (components/nodes/node_connection.py, node_states.py) -> their words."""
REACHED = {
    "address": "address",
    "port": "port",
    "user": "login user",
    "bastionAddress": "address of the bastion",
    "bastionPort": "port of the bastion",
    "bastionUser": "login user of the bastion",
}
"""Keys of a plan by which a node is reached -> their words where they change; of a new node they are in the stack's file."""
KEYS = {"hostKey": "**its host key** changes", "bastionHostKey": "**the bastion's host key** changes"}
"""Keys of a plan whose values would be cut off before they differ, and look like a secret."""
SOURCE = "programAddress"
"""Key of the plan of a group (components/aws/node_group.py), which plans of earlier versions did not have."""
GONE = "gone"
"""Key of the plan of a node whose machine no longer exists."""
LATER = {
    *REACHED,
    *KEYS,
    "repositoryFingerprint",
    "repositorySuite",
    "archiveSha256",
    "allowedAnnotations",
    "proofSeconds",
}
"""Keys that plans of earlier versions did not have: of a node that one of these made, there is nothing to compare."""
PLANNED = {
    "version",
    "kataVersion",
    "kataRuntime",
    "runtime",
    "hypervisor",
    "nestedSandbox",
    "kernelParams",
    "expect",
    "digest",
    "node",
}
"""Keys of the states of a node's verbs (nodekit/rules/node_state.py) that its plan shows, or that only summarize others."""
SERVER_FIELDS = ("metadata.resourceVersion", "metadata.generation", "metadata.managedFields", "__fieldManager")
"""What the API server and the plugin keep for themselves: no change that anybody made."""
SILENT_KINDS = ("Secret", "ConfigMap")
"""Kinds whose values are somebody's data: their fields are named, never shown."""


def value_text(value: object) -> str:
    """One value as it may stand in a comment."""
    if value == UNKNOWN:
        return "(known later)"
    if value is None:
        return "(none)"
    if isinstance(value, str):
        return code(value, 80)
    return code(json.dumps(value, sort_keys=True), 80)


def _some(values: Iterable[Any], between: str = ", ") -> str:
    """The first of them as code, and how many more there are."""
    texts = [str(value) for value in values]
    rest = f" and {len(texts) - NAMES_SHOWN} more" if len(texts) > NAMES_SHOWN else ""
    return between.join(code(text, 120) for text in texts[:NAMES_SHOWN]) + rest


def _parameters(old: Iterable[Any], new: Iterable[Any]) -> list[str]:
    """What a list of kernel parameters gains, loses and changes, by key."""
    before, after = Counter(map(str, old)), Counter(map(str, new))
    lost, gained = [*(before - after).elements()], [*(after - before).elements()]
    keys = [Counter(parameter.partition("=")[0] for parameter in side) for side in (lost, gained)]
    once = {key for key in keys[0] if keys[0][key] == keys[1][key] == 1}
    after_by_key = {parameter.partition("=")[0]: parameter for parameter in gained}
    pairs = [(parameter, after_by_key[key]) for parameter in lost if (key := parameter.partition("=")[0]) in once]
    words = [f"kernel_params change {code(before)} → {code(after)}" for before, after in pairs[:NAMES_SHOWN]]
    lost = [parameter for parameter in lost if parameter.partition("=")[0] not in once]
    gained = [parameter for parameter in gained if parameter.partition("=")[0] not in once]
    if gained:
        words.append(f"kernel_params gain {_some(gained, ' ')}")
    if lost:
        words.append(f"kernel_params lose {_some(lost, ' ')}")
    return words


def _hidden(parameters: object) -> str:
    """What stands for a list that is not known yet or a secret, whole or in part; empty for one that can be shown."""
    items = parameters if isinstance(parameters, list) else [parameters]
    return "(known later)" if UNKNOWN in items else "(secret)" if SECRET in items else ""


def _plan(resource: Resource, which: str) -> Mapping[str, Any]:
    values = (resource.old if which == "old" else resource.new) or {}
    plan = values.get("plan")
    return plan if isinstance(plan, dict) else {}


def name_of(resource: Resource, children: Iterable[Resource]) -> str:
    """The name that a node has in its stack's file, which its resource has with that of its pool before it.

    Where the document has no plan of the node, the state that one of its commands hands over has the name.
    """
    plans = (_plan(resource, "new"), _plan(resource, "old"))
    states = (login.desired_state((values or {}).get("stdin")) for child in children for values in (child.new, child.old))
    names = (values.get("node") for values in (*plans, *states))
    return next((name for name in names if isinstance(name, str) and name and name != UNKNOWN), resource.name)


STEPS = ("docker", "kata")
"""Steps of the command `-converge`, each with a state of its own in that command's."""


def _steps(child: Resource, values: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The states that end a command's standard input, by step; empty where a preview cannot know them."""
    state, name = login.desired_state((values or {}).get("stdin")), child.name.rsplit("-", 1)[-1]
    own = {step: state.get(step) for step in STEPS} if name == "converge" else {name: state or None}
    return {step: values for step, values in own.items() if isinstance(values, dict)}


def _states(child: Resource) -> list[str]:
    """Names of the settings of a node's steps that change beside the node's plan."""
    old, new = _steps(child, child.old), _steps(child, child.new)
    return [
        f"{code(key)} of its {code(step)} step changes"
        for step in sorted(old.keys() & new.keys())
        for key in sorted({*old[step], *new[step]} - PLANNED)
        if old[step].get(key) != new[step].get(key)
    ]


def _is_for_another_machine(child: Resource) -> bool:
    """Whether the first trigger of a command differs, the identity of its machine."""
    if not child.old or not child.new:
        return False
    old, new = (entries(values.get("triggers")) for values in (child.old, child.new))
    if old == new:  # both can read `[secret]`: the engine knows which of them differs
        return bool({"triggers", "triggers[0]"} & child.noted)
    return old[:1] != new[:1]


def _is_another_program(upload: Resource) -> bool:
    """Whether the last trigger of an upload differs, the sum of the program: one by another login sends the same."""
    if not upload.old or not upload.new:
        return True
    old, new = (entries(values.get("triggers")) for values in (upload.old, upload.new))
    return old[-1:] != new[-1:]


def machines_replaced(changes: Iterable[Resource]) -> Callable[[Resource], bool]:
    """Whether a node's instance on AWS is replaced, itself or with its login key.

    Without a state nobody knows the identity of either machine, so the node's commands look the same.
    """
    replaced = [change for change in changes if change.op == "replace" and f"{POOL}::" in change.parent]
    instances = {(change.parent, change.name) for change in replaced if change.type == INSTANCE}
    pools = {change.parent for change in replaced if change.type == LOGIN_KEY}
    return lambda node: node.parent in pools or (node.parent, f"{node.name}-instance") in instances


def _set_up(plan: Mapping[str, Any]) -> str:
    """What a new node becomes, or a machine of a new group."""
    first = [f"{LABELS.get(key, code(key))} {value_text(plan[key])}" for key in LABELS if key in plan]
    text = _hidden(plan.get("kernelParams")) or _some(entries(plan.get("kernelParams")), " ")
    return ", ".join([*first, *([f"kernel_params {text}"] if text else [])])


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], left_out: Collection[str] = ()) -> list[str]:
    """What another plan changes, but for the keys that are left out."""
    differing = {key for key in {*old, *new} if old.get(key) != new.get(key)} - {*left_out}
    labels = {**LABELS, **REACHED}
    words = [
        f"{labels.get(key) or code(key)} {value_text(old.get(key))} → {value_text(new.get(key))}"
        for key in sorted(differing - {"kernelParams", *KEYS}, key=lambda key: ([*labels, key].index(key), key))
    ]
    words += [text for key, text in KEYS.items() if key in differing]
    before, after = old.get("kernelParams"), new.get("kernelParams")
    if hidden := _hidden(after) or _hidden(before):
        return words + ([f"kernel_params {hidden}"] if before != after else [])
    return words + _parameters(entries(before), entries(after))


def group(resource: Resource) -> str:
    """What happens to a group of machines that prove themselves; empty when nothing does to what they become."""
    new, old = _plan(resource, "new"), _plan(resource, "old")
    if resource.op == "delete":
        return "**removed** from the stack"
    if resource.op == "create":
        return f"**new**: {_set_up(new)}; each machine is proven before it joins"
    words = _differences(old, new, () if SOURCE in old else (SOURCE,))
    return f"{'; '.join(words)}; for machines that start from then on" if words else ""


def cluster_proof(resource: Resource) -> str:
    """What becomes of the proof of a cluster's nodes, whose Jobs no preview has that cannot ask for the nodes; empty when nothing
    does, and where its objects show all, as of a new one."""
    new, old = _plan(resource, "new"), _plan(resource, "old")
    words = _differences(old, new) if old and new and resource.op != "delete" else []
    return f"change the proof of the cluster's nodes {code(resource.name)}: {'; '.join(words)}" if words else ""


def node(resource: Resource, children: Iterable[Resource], machine_replaced: bool = False) -> str:
    """What happens to one node; empty when nothing does. `children` are the resources below it that change."""
    new, old = _plan(resource, "new"), _plan(resource, "old")
    if resource.op == "delete":
        return "**removed** from the stack"
    if new.get(GONE):
        return "" if old.get(GONE) else "**gone**: nothing is done on it any longer, and it vouches for nothing"
    if resource.op == "create":
        return f"**new**: {_set_up(new)}; proven before anything comes after it"
    words = ["**no longer gone**: everything is done again"] if old.get(GONE) else []
    words += _differences(old, new, (GONE,) if "address" in old else (GONE, *LATER))
    changed = {child.name.rsplit("-", 1)[-1]: child for child in children}
    if machine_replaced or any(_is_for_another_machine(child) for child in changed.values()):
        words.append("**another machine**: everything is done and proven again")
    elif "upload" in changed and _is_another_program(changed["upload"]):
        words.append("the node program is renewed")
    for child in changed.values():
        words += _states(child)
    # One that comes or goes, as where another version of this program has others, has all its inputs changed.
    if any("connection" in child.changed for child in changed.values() if child.old and child.new):
        words.append("its connection changes")
    if "proof" in changed:
        words.append("proven again")
    return "; ".join(dict.fromkeys(words)) or ("its commands change" if changed else "")


def _paths(old: Any, new: Any, path: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Every field that differs: its path, and both values (None where there is none)."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _paths(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield path, old, new


def _field(path: str, old: Any, new: Any, silent: bool) -> str:
    """One changed field; its values only where they are short, plain and no secret."""
    values = (old, new)
    plain = all(
        value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 80)
        for value in values
    )
    if silent or not plain or SECRET in values or SECRET_NAME.search(path):
        return code(path, 120)
    return (
        f"{code(path, 120)} {'(absent)' if old is None else value_text(old)} → {'(absent)' if new is None else value_text(new)}"
    )


def cluster_object(resource: Resource) -> str:
    """What happens to one object on the cluster."""
    values = resource.new or resource.old or {}
    metadata = values.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name")
    name = name if isinstance(name, str) and name != UNKNOWN else resource.name
    kind = resource.type.rsplit(":", 1)[-1]
    where = metadata.get("namespace")
    place = f" in {code(where)}" if isinstance(where, str) and where != UNKNOWN else ""
    line = f"{VERBS[resource.op]} {code(kind)} {code(name)}{place}"
    if resource.op not in ("update", "replace", "changed") or not resource.old or not resource.new:
        return line
    fields = [field for field in _paths(resource.old, resource.new) if field[0] not in SERVER_FIELDS]
    words = [_field(*field, silent=kind in SILENT_KINDS) for field in fields[:PATHS_SHOWN]]
    rest = [f"{len(fields) - PATHS_SHOWN} more fields"] if len(fields) > PATHS_SHOWN else []
    return f"{line}: {'; '.join([*words, *rest])}" if words else line


def is_another_account(resource: Resource) -> bool:
    """Whether a plugin of the stack is set otherwise, as with another region or cluster, where all that it makes would be.

    A kubeconfig is not known before the nodes are proven, so it seems to change with each of them; its cluster is an input too.
    """
    if not resource.type.startswith("pulumi:providers:") or resource.op not in ("update", "replace"):
        return False
    return any((resource.new or {}).get(name) not in (UNKNOWN, SECRET) for name in resource.changed)


def other(resource: Resource) -> str:
    """What happens to any other resource: its inputs are named, and none of their values is shown."""
    line = f"{VERBS[resource.op]} {resource_type(resource.type)} {code(resource.name)}"
    names = sorted(resource.changed) if resource.op in ("update", "replace", "changed") else []
    return f"{line}: {', '.join(code(name, 60) for name in names[:PATHS_SHOWN])}" if names else line


def named(names: Iterable[str]) -> str:
    """Nodes that have the same line."""
    nodes = list(names)
    return f"node{'s' if len(nodes) > 1 else ''} {_some(nodes)}"
