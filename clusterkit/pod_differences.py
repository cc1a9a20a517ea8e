"""Compare a Job or its pod with what was asked for: admission webhooks and users with access to Jobs can change both."""

from collections.abc import Iterable, Mapping
from typing import Any

from clusterkit.pod_safety import HOST_NAMESPACES

STEERING = ("group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.preload", "nsswitch.conf", "passwd", "subgid", "subuid")
"""Files of /etc that decide what a program does. Others may be mounted there, such as a company's certificates."""
PROGRAMS = ("/bin", "/lib", "/lib32", "/lib64", "/opt", "/proc", "/sbin", "/sys", "/usr", *(f"/etc/{name}" for name in STEERING))
"""What the ladder runs and reads. A mount elsewhere is nothing to it, such as the credentials that clusters add."""
Fields = Mapping[str, Any]


def container_of(spec: Fields, name: str) -> Fields:
    """The container of that name in a pod spec (core/v1); empty where there is none. Webhooks put their own before it."""
    empty: Fields = {}
    return next((each for each in spec.get("containers") or [] if each.get("name") == name), empty)


def differences(template: Fields, spec: Fields, image_id: str = "") -> list[str]:
    """What differs in a pod spec (core/v1), of a Job or of its pod, from what was asked for; the API server adds defaults.

    What a cluster's webhooks may add, since it makes no verdict better: other containers, volumes that hide no program, and
    fewer rights.
    """
    requested = template["containers"][0]
    container = container_of(spec, requested["name"])
    fields = ("serviceAccountName", "runtimeClassName")
    differing = [field for field in fields if (spec.get(field) or None) != (template.get(field) or None)]
    differing += [f"container.{key}" for key in ("command", "args") if (container.get(key) or []) != (requested.get(key) or [])]
    if environment(container) != environment(requested):
        differing.append("container.env")
    if container.get("envFrom"):
        differing.append("container.envFrom")
    _, at, digest = str(requested.get("image")).partition("@")
    # Where an image is rewritten to a mirror, it is still the one that was asked for by its digest.
    if container.get("image") != requested.get("image") and not (at and image_id.endswith(f"@{digest}")):
        differing.append("container.image")
    differing += [field for field in HOST_NAMESPACES if spec.get(field) and not template.get(field)]
    if template.get("hostUsers") is False and spec.get("hostUsers") is not False:
        differing.append("hostUsers")
    if _more_rights(_rights(spec, container), _rights(template, requested)):
        differing.append("container.securityContext")
    if _mounts(spec, container) - _mounts(template, requested):
        differing.append("container.volumeMounts")
    return differing


def environment(container: Fields) -> dict[str, str | None]:
    """Variables of a container; None where a value comes from elsewhere. The API server leaves an empty value out."""
    return {each["name"]: None if "valueFrom" in each else each.get("value", "") for each in container.get("env") or []}


def _rights(spec: Fields, container: Fields) -> dict[str, Any]:
    """What of the two security contexts (core/v1) gives rights; the container's own counts before the pod's."""
    pod, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    return {
        "user": own.get("runAsUser", pod.get("runAsUser")),
        "capabilities": {str(each).removeprefix("CAP_") for each in (own.get("capabilities") or {}).get("add") or []},
        "privileged": bool(own.get("privileged")),
        "unmasked": own.get("procMount") == "Unmasked",
        "escalates": own.get("allowPrivilegeEscalation") is not False,
        "unconfined": (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") in (None, "Unconfined"),
    }


def _more_rights(actual: Mapping[str, Any], requested: Mapping[str, Any]) -> bool:
    """Whether a container may do what the requested one may not.

    Another user than root gives no more rights; OpenShift chooses one. Without a user the image's own counts, often root.
    """
    return bool(
        actual["capabilities"] - requested["capabilities"]
        or any(actual[right] and not requested[right] for right in ("privileged", "unmasked", "escalates", "unconfined"))
        or (actual["user"] == 0 and requested["user"] != 0)
        or (actual["user"] is None and requested["user"] not in (0, None))
    )


def _mounts(spec: Fields, container: Fields) -> set[tuple[str, str, str]]:
    """Place, volume and the volume's kind of each mount that hides programs, or lets the container into the node's own files."""
    kinds = {str(each.get("name")): " ".join(sorted(each.keys() - {"name"})) for each in spec.get("volumes") or []}
    mounts = ((_absolute(str(each.get("mountPath"))), str(each.get("name"))) for each in container.get("volumeMounts") or [])
    whole = ((path, volume, kinds.get(volume, "")) for path, volume in mounts)
    return {(path, volume, kind) for path, volume, kind in whole if kind == "hostPath" or _hides(path, PROGRAMS)}


def _absolute(path: str) -> str:
    """As a kubelet and the runtime take it: a relative one from the root (pkg/kubelet, makeMounts), and cleaned."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _hides(path: str, folders: Iterable[str]) -> bool:
    """Whether a mount at an absolute path hides one of the folders, or something below it."""
    whole = f"{path.rstrip('/')}/"
    return any(whole.startswith(f"{folder}/") or f"{folder}/".startswith(whole) for folder in folders)
