"""Read the stack's configuration as Pulumi holds it: its keys, its secrets, and the words of every refusal."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping

from pydantic import BaseModel, ValidationError

from delivery import login
from nodekit.errors import NodeError
from stacks.model import DockerRepository, KataArchive, Nodes, StackConfig
from stacks.sections import FORMS

NAMESPACE = "kata-nodes"
OBJECTS = ("nodes", "docker", "kata", "kubernetes", "verification")
LOGIN_SECRETS = {
    "sshPrivateKey": "Private key of the login to existing nodes, or to instances on AWS that got its public half; without it "
    "the SSH agent is asked.",
    "sudoPassword": "What sudo asks the login user of existing nodes for; without it sudo must ask for nothing.",
    "bastionPrivateKey": "Private key of the login to the bastion; without it the SSH agent is asked.",
}
"""Secrets of the login to existing nodes -> their meaning. Each is a key of its own, which Pulumi encrypts whole."""
SECRETS = {
    **LOGIN_SECRETS,
    "runtimeScript": "What a machine of an auto-scaling group runs as root first of all, to install the container runtime in "
    "which the handler is registered, where its image has none; begins with #!/.",
    "joinScript": "What a machine of an auto-scaling group runs as root once it is proven, to join a cluster; begins with #!/.",
}
"""All that pools take, the scripts of a group's machines among them."""
SECRET_KEYS = {**SECRETS, "kubeconfig": "Kubeconfig of the cluster, where `kubernetes.cluster` is `kubeconfig`."}
"""All that the program takes."""
REMEDIES = {
    "extra_forbidden": "Remove the key, or correct its spelling; docs/reference/settings.md has every key",
    "missing": "Add the key",
    "string_type": "Write text, in quotes where it looks like a number",
    "int_type": "Write a whole number without quotes",
    "bool_type": "Write true or false without quotes",
    "list_type": "Write a list",
    "dict_type": "Write its keys below it, indented",
    "too_short": "Write one entry at least",
    "string_too_short": "Write the text",
    "model_type": "Write its keys below it, indented, or remove it",
}
REASONS = {
    "extra_forbidden": "there is no such key",
    "missing": "the key is required",
    "model_type": "it has keys of its own, and this is not a set of keys",
    "string_pattern_mismatch": "the key takes no such text",
    "too_short": "the list is empty",
    "string_too_short": "the text is empty",
    "dict_type": "it is not a set of keys",
}
LOGIN_IN_ADDRESS = re.compile(r"://[^\s/]*@")
"""A user name, and often a password, that no message repeats."""


class ConfigError(Exception):
    """The stack configuration is refused; the text names each key, its value, the reason and the remedy."""


def load(get_object: Callable[[str], object]) -> StackConfig:
    """The configuration from `pulumi.Config(NAMESPACE).get_object`; raises ConfigError."""
    sections = {key: value for key in OBJECTS if (value := get_object(key)) is not None}
    try:
        return StackConfig.model_validate(sections)
    except ValidationError as error:
        raise ConfigError(refusal(error)) from None


def refusal(error: ValidationError) -> str:
    """One line for each mistake: the key as `pulumi config` names it, the value seen, the reason, the remedy."""
    lines = []
    problems = [(_path(problem["loc"]), problem) for problem in error.errors(include_url=False)]
    kinds = {kind: [path for path, problem in problems if problem["type"] == kind] for kind in ("literal_error", "model_type")}
    for path, problem in problems:
        # A key that takes a word or keys below it has one problem for each. Where keys are wrong, the word was not meant.
        either = path in kinds["literal_error"]
        if either and (problem["type"] == "model_type" or any(other[: len(path)] == path != other for other, _ in problems)):
            continue
        key = f"{NAMESPACE}:" + (".".join(path) if path else "(the whole configuration)")
        # The value of a key that does not exist could be a password or a login key in the wrong place, and so could one within.
        hidden = problem["type"] in ("missing", "extra_forbidden")
        hidden = hidden or (problem["type"] != "literal_error" and _keys(problem["input"]))
        hidden = hidden or bool(login.PRIVATE_KEY.search(repr(problem["input"])))
        has_value = path and not hidden
        value = LOGIN_IN_ADDRESS.sub("://", repr(problem["input"]))
        seen = f" (value: {value:.120})" if has_value else ""
        reason = REASONS.get(problem["type"], problem["msg"].removeprefix("Value error, ")).rstrip(".")
        if either and path in kinds["model_type"]:
            reason += ", or keys below it"
        # A rule's own refusal ends with its code and holds its remedy already.
        remedy = "" if reason.endswith("]") else f". {REMEDIES.get(problem['type'], 'Correct the value')}."
        if problem["type"] == "string_pattern_mismatch":
            reason, remedy = REASONS["string_pattern_mismatch"], f". Use {FORMS[problem['ctx']['pattern']]}."
        lines.append(f"{key}{seen}: {reason}{remedy}")
    return "The stack configuration is refused:\n  " + "\n  ".join(dict.fromkeys(lines))


def _path(location: tuple[int | str, ...]) -> list[str]:
    """The keys to a problem. pydantic puts the alternatives of a union among them, which are none."""
    alternatives = (DockerRepository.__name__, KataArchive.__name__)
    parts: list[str] = []
    for part in location:
        if isinstance(part, int) and parts:
            parts[-1] += f"[{part}]"
        elif part not in alternatives and not str(part).startswith(("function-", "literal[")):
            parts.append(str(part))
    return parts


def _keys(value: object) -> bool:
    """Whether a value is a set of keys, or a list with one."""
    return isinstance(value, BaseModel | dict) or (isinstance(value, list) and any(map(_keys, value)))


def refuse_unknown(keys: Iterable[str], project: str = NAMESPACE) -> None:
    """Refuse keys of this namespace that are neither a section nor a secret, of all that Pulumi holds; raises ConfigError.

    So are those of a namespace that can only be meant for this one, since a section there would have no effect and no message:
    a misspelt one, or that of a `project` with another name, which is that of a key without a namespace. Keys of another program,
    such as data-nodes:size, are not. The values are not shown: one could be a secret whose key is misspelt.
    """
    names = (*OBJECTS, *SECRET_KEYS)
    known = {f"{NAMESPACE}:{name}" for name in names}

    def is_meant(namespace: str, name: str) -> bool:
        close = namespace == project or difflib.get_close_matches(namespace.lower(), [NAMESPACE], cutoff=0.8)
        return namespace == NAMESPACE or bool(close and difflib.get_close_matches(name, names, cutoff=0.8))

    meant = {key for key in keys if is_meant(*key.partition(":")[::2])}
    strange = sorted(meant - known)
    if strange:
        lines = [f"{key}: {REASONS['extra_forbidden']}. {_instead(key, known)}." for key in strange]
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(lines))


def _instead(key: str, known: Collection[str]) -> str:
    """What to do with a key that there is not: of another namespace, or written as a path into a section, as messages here do."""
    if (own := f"{NAMESPACE}:{key.partition(':')[2]}") in known:
        return f"Write it as {own}"
    section = re.fullmatch(rf"{NAMESPACE}:({'|'.join(OBJECTS)})[.\[][^'\s]*", key)
    if section is None:
        return REMEDIES["extra_forbidden"]
    return (
        f"It was set without --path, so it is no part of {NAMESPACE}:{section[1]}. Run: pulumi config rm '{key}', then "
        f"pulumi config set --path '{key}' VALUE"
    )


def refuse_useless(config: StackConfig, secrets: Collection[str]) -> None:
    """Refuse secrets of `SECRET_KEYS` that are set and that nothing would use; raises ConfigError."""
    nodes = config.nodes or Nodes.model_construct()
    users = {node.user for node in nodes.existing or []}
    aws = nodes.aws
    given_key = bool(aws and aws.instances and aws.instances.public_key)
    required = {
        "sshPrivateKey": (bool(users) or given_key, "nodes.existing names no node, and nodes.aws.instances no publicKey"),
        "sudoPassword": (bool(users - {"root"}), "every node of nodes.existing is logged in to as root, or there is none"),
        "bastionPrivateKey": (nodes.bastion is not None, "nodes.bastion is not set"),
        "runtimeScript": (bool(aws and aws.group), "nodes.aws.group is not set"),
        "joinScript": (bool(aws and aws.group), "nodes.aws.group is not set"),
        "kubeconfig": (
            bool(config.kubernetes and config.kubernetes.cluster == "kubeconfig"),
            "nothing is made on its cluster: there is no section kubernetes, or kubernetes.cluster is 'local'",
        ),
    }
    errors = [
        NodeError(
            "login-useless",
            f"{NAMESPACE}:{key} is set, but {why}",
            "cluster" if key == "kubeconfig" else "",
            key=f"{NAMESPACE}:{key}",
        )
        for key, (needed, why) in required.items()
        if key in secrets and not needed
    ]
    if errors:
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(error.sentence() for error in errors))


def refuse_settings_of_plugins(config: StackConfig, values: Mapping[str, str]) -> None:
    """Refuse settings of the plugins of AWS and Kubernetes, such as aws:profile, where the stack makes something there; raises
    ConfigError. `values` are all that Pulumi holds.

    The stack has its account and its cluster by plugins of its own, to which they do not come: with aws:profile or
    kubernetes:context, or without what aws:allowedAccountIds forbids, it would be made in another place than was meant.
    """
    instead = {}
    if aws := config.nodes.aws if config.nodes else None:
        instead["aws"] = (
            "nodes.aws.region names the region, and the credentials are those of the aws command where the stack is run, such as "
            "by AWS_PROFILE"
        )
    if config.kubernetes:
        instead["kubernetes"] = f"the secret {NAMESPACE}:kubeconfig and kubernetes.context name the cluster"
    lines = [
        f"{key}: it would have no effect: {instead[plugin]}. Remove it: pulumi config rm {key}."
        for key, value in sorted(values.items())
        if (plugin := key.partition(":")[0]) in instead and (key, value) != ("aws:region", aws and aws.region)
    ]
    if lines:
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(lines))


def refuse_encrypted_sections(is_secret: Callable[[str], bool]) -> None:
    """Refuse sections of which a part was set as a secret (`pulumi config set --secret --path`); raises ConfigError.

    They become inputs of resources in plain: the state, previews and outputs would show what the stack's file keeps encrypted.
    """
    encrypted = [key for key in (f"{NAMESPACE}:{section}" for section in OBJECTS) if is_secret(key)]
    if encrypted:
        why = (
            "it is set as a secret, or a part of it is, and the stack's state and outputs would show it in plain. Set it without "
            f"--secret if everyone who can read these may know it. Secrets are keys of their own: {', '.join(SECRET_KEYS)}."
        )
        lines = [f"{key}: {why}" for key in encrypted]
        raise ConfigError("The stack configuration is refused:\n  " + "\n  ".join(lines))


def in_plain(keys: Iterable[str], is_secret: Callable[[str], bool]) -> list[str]:
    """A sentence for each key of `SECRET_KEYS` that is set without --secret: its value lies in the stack's file for everyone who
    can read that. The state has it encrypted all the same."""
    plain = [f"{NAMESPACE}:{key}" for key in keys if not is_secret(f"{NAMESPACE}:{key}")]
    return [
        f"{key} is set in plain, so everyone who can read the stack's file knows it. Replace the secret where it is valid, and "
        f"set the new one encrypted: pulumi config set --secret {key}"
        for key in plain
    ]
