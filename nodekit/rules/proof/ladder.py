"""Judge a transcript of ladder.sh: which rungs were climbed, and for the first that was not, cause and cure."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from nodekit.errors import remedy_for
from nodekit.rules.kata.kernel_params import HIGHEST_LIMIT, LIMIT, Parameter, limit, of_the_kernel, replacements
from nodekit.rules.proof.sandboxes import SANDBOXES
from nodekit.rules.text import printable

JUDGE_VERSION = 3
"""Raised where `judge` refuses what it accepted before: what an earlier version accepted in a cluster is then proven again."""
MAX_TRANSCRIPT = 1 << 20
"""Characters of a transcript that are read."""
MAX_VALUE = 4096
"""Characters of one value or detail that are kept; an x86 command line has 2047 bytes at most."""
SHOWN = 300
"""Characters of a value or detail that stand in a sentence."""
CHILD_NAMESPACE = HIGHEST_LIMIT
"""What max_user_namespaces reads inside a child user namespace, whatever the guest's own limit is; a guest's command line may
set that limit, too."""
RAISE = (
    "Set sysctl.user.max_user_namespaces=N in kata.kernelParams, with N as high as all sandboxes together need (the kernel's own "
    "is some thousands), and remove limits of other kinds, such as sysctl.user.max_net_namespaces, from Kata's configuration"
)
"""What fixes a limit that is too low, no matter who set it: ours is merged behind the others, and the last one wins."""

VARIABLES = tuple(f"KATA_NODES_{name}" for name in ("NETWORK", "NAME", "SECONDS", "ORDINARY", "ENTRY", "MESSAGE", "KEYS"))
"""Variables of ladder.sh that need not be set. A container is given all of them, empty where they have no value: one that its
image sets would otherwise be read, such as the command that is to take the rights away: `true` would pass for any sandbox."""

BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What /proc/sys/kernel/random/boot_id reads."""
_LINE = re.compile(r"rung=([a-z-]{1,40}) status=(ok|fail|absent) value=([!-~]*) detail=([!-~]*)(?: at=([0-9]{1,9}\.[0-9]{2}))?")


class Rung(NamedTuple):
    """One rung: what it needs, whether it was climbed (None: not tried, or only reported), and why not."""

    name: str
    need: str
    passed: bool | None
    counts: bool
    """Whether what was promised needs it."""
    value: str
    detail: str
    cause: str = ""
    remedy: str = ""
    at: float | None = None
    """When it was reported, in seconds since the guest's kernel started; those that are climbed together have one time."""

    def as_dict(self) -> dict[str, object]:
        """The form in a result document."""
        return {
            "name": self.name,
            "need": self.need,
            "passed": self.passed,
            "counts": self.counts,
            "value": self.value,
            "detail": self.detail,
            "at": self.at,
        }


class Verdict(NamedTuple):
    """All rungs in the ladder's order, and the first failure: a stable code, one sentence and a remedy."""

    rungs: tuple[Rung, ...]
    user_namespaces: int
    guest_kernel: str
    command_line: str
    boot_id: str
    code: str | None = None
    message: str = ""
    remedy: str = ""

    @property
    def passed(self) -> bool:
        """Whether every rung that counts was climbed."""
        return self.code is None


@dataclass(frozen=True)
class Reading:
    """One line of ladder.sh, unescaped and bounded."""

    status: str
    value: str
    detail: str
    at: float | None = field(default=None, compare=False)


def readings(transcript: str, nonce: str) -> tuple[dict[str, Reading], bool]:
    """The lines that start with `nonce`, and whether the transcript is whole: it has its end, and no rung twice.

    A line may stand behind other text, as on a console that the kernel writes to as well.
    """
    readings: dict[str, Reading] = {}
    ended = False
    for line in transcript[:MAX_TRANSCRIPT].splitlines():
        _, mark, text = line.partition(f"{nonce} ")
        if not mark:
            continue
        if text.strip() == "end":
            ended = True
            break
        match = _LINE.match(text)
        if match is None or match[1] in readings:
            return readings, False
        readings[match[1]] = Reading(match[2], _plain(match[3]), _plain(match[4]), float(match[5]) if match[5] else None)
    return readings, ended


def _plain(escaped: str) -> str:
    return printable(unquote(escaped, encoding="ascii", errors="replace"), MAX_VALUE)


def _in_sentence(text: str) -> str:
    """Untrusted text within a sentence: one line, cut."""
    return printable(" ".join(text.split()), SHOWN)


Finding = tuple[bool | None, str, str, str]
"""Passed, the error's code, cause, remedy."""
FINE: Finding = (True, "", "", "")


ROUNDED = 5.0
"""Seconds by which a time and the difference of two others may be apart: some are whole seconds."""


def ran_before(kernel: str, times: Iterable[float | None], node_kernel: str, seconds: float) -> bool:
    """Whether the ladder's kernel is of the node's release and had run for longer than what the ladder was started in.

    Kata starts a guest for each pod or container, so such a kernel is the node's. `times` are those of the rungs (`Rung.at`), and
    `seconds` is the age of the pod or container. A node that is a container of LXC reports a boot id of that container's own
    (lxc, lxc_setup_boot_id), and what runs on the same kernel with a new proc reads the kernel's.
    """
    running = max((at for at in times if at is not None), default=0.0)
    return bool(node_kernel) and kernel == node_kernel and running > seconds + ROUNDED


def _boot_id(read: Reading, node_boot_id: str) -> Finding:
    if read.value == node_boot_id:
        return (
            False,
            "proof-not-a-guest",
            "the boot id is the node's own, so this ran on the node's kernel and in no guest",
            remedy_for("proof-not-a-guest"),
        )
    if not BOOT_ID.fullmatch(read.value):
        return (False, "proof-not-a-guest", "no boot id could be read", remedy_for("proof-not-a-guest", "proc"))
    return FINE


def _parameters(read: Reading, expected: Sequence[str]) -> Finding:
    present = [parameter.text for parameter in of_the_kernel(read.value)]
    missing = [token for token in expected if token not in present]
    if not missing:
        return _in_effect(read, expected)
    return (
        False,
        "proof-parameters-missing",
        f"the guest's command line lacks {' '.join(missing)}: another configuration file is read, or a drop-in or pod "
        "annotation replaced kernel_params",
        remedy_for("proof-parameters-missing"),
    )


def _in_effect(read: Reading, expected: Sequence[str]) -> Finding:
    replaced = replacements(read.value, expected)
    if not replaced:
        return FINE
    listed = ", ".join(f"{later} after {token}" for token, later in replaced.items())
    return (
        False,
        "proof-parameters-missing",
        f"the guest's command line has {listed}, and the kernel takes the last: Kata's own parameters, a drop-in or a pod "
        "annotation added it",
        remedy_for("proof-parameters-missing", "replaced"),
    )


def _entry(read: Reading, place: str) -> Finding:
    if read.status != "fail":
        return (True if read.status == "ok" else None, "", "", "")
    image = {"image": "verification.image", "pod": "kubernetes.proof.image"}.get(place, "the image")
    return (
        False,
        "proof-entry-failed",
        "the entry through which sandboxes start could not mount a proc of its own",
        remedy_for("proof-entry-failed", image=image),
    )


def _limits(command_line: str) -> tuple[list[str], list[str]]:
    """The tokens that set the limit, of which the last is in effect, and those that the kernel ignores (`limit`)."""
    tokens = [parameter for parameter in of_the_kernel(command_line) if parameter.key == LIMIT]
    ignored = [parameter.text for parameter in tokens if limit(parameter.value or "") is None]
    return [parameter.text for parameter in tokens if parameter.text not in ignored], ignored


def _limit_set_by(command_line: str) -> str | None:
    """The token that set the limit, if one did."""
    setting, _ = _limits(command_line)
    return setting[-1] if setting else None


FIRST_WITH_LIMIT = (4, 9)
"""The first Linux with /proc/sys/user (user_namespaces(7), namespaces(7))."""


def _absent_limit(kernel: str, can_make: bool) -> tuple[str, str]:
    """Why the file is not there, and what cures it: `can_make` is whether a user namespace was made all the same."""
    release = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", kernel)
    if release and (int(release[1]), int(release[2])) < FIRST_WITH_LIMIT:
        return (
            f"the guest's kernel, {_in_sentence(kernel)}, is older than 4.9, the first that has it",
            remedy_for("proof-user-namespaces-absent", "old"),
        )
    if can_make:
        return (
            "the guest makes user namespaces all the same, so something lies over /proc/sys/user",
            remedy_for("proof-user-namespaces-absent", "hidden"),
        )
    return "the guest's kernel has no user namespaces (CONFIG_USER_NS=n)", remedy_for("proof-user-namespaces-absent")


def _user_namespaces(read: Reading, command_line: str, kernel: str, can_make: bool) -> Finding:
    if read.status == "absent":
        return (False, "proof-user-namespaces-absent", *_absent_limit(kernel, can_make))
    if read.status == "fail":
        return (
            False,
            "proof-user-namespaces-unreadable",
            "the file is there and cannot be read",
            remedy_for("proof-user-namespaces-unreadable"),
        )
    if not re.fullmatch(r"[0-9]{1,10}", read.value) or int(read.value) > HIGHEST_LIMIT:
        return (
            False,
            "proof-user-namespaces-not-a-number",
            f"the reading is not a whole number up to {HIGHEST_LIMIT}, so /proc/sys/user is not the kernel's own",
            remedy_for("proof-user-namespaces-not-a-number"),
        )
    number = int(read.value)
    if number == 0:
        token = _limit_set_by(command_line)
        case = "later" if token and limit(Parameter(token).value or "") else ""
        if case:
            cause = f"{token} on the guest's command line sets another one, so a program of the guest set it to 0 after that"
        elif token:
            cause = f"{token} on the guest's command line sets the limit"
        elif ignored := _limits(command_line)[1]:
            token = _in_sentence(ignored[-1])
            cause = (
                f"a hardening default of the guest sets it: {token} on its command line is no limit, and its kernel ignores it"
            )
        else:
            cause = f"a hardening default of the guest sets it: {LIMIT} is not on the guest's command line"
        return (False, "proof-user-namespaces-zero", cause, remedy_for("proof-user-namespaces-zero", case))
    if number == CHILD_NAMESPACE and limit(Parameter(_limit_set_by(command_line) or "").value or "") != CHILD_NAMESPACE:
        return (
            False,
            "proof-user-namespaces-child-namespace",
            "this is what a child user namespace reads, which says nothing about the guest's limit",
            remedy_for("proof-user-namespaces-child-namespace"),
        )
    return FINE


def _as_expected(read: Reading, expected: Sequence[str]) -> Finding:
    """Whether the limit, a number above 0, is the one that an expected parameter sets."""
    setting = [token for token in expected if Parameter(token).key == LIMIT and limit(Parameter(token).value or "") is not None]
    if not setting or limit(Parameter(setting[-1]).value or "") == int(read.value):
        return FINE
    return (
        False,
        "proof-parameters-missing",
        f"{setting[-1]} is on the guest's command line and not in effect: its kernel is older than 5.8, which knows no such "
        "parameter, or a program of the guest set another limit after that",
        remedy_for("proof-parameters-missing", "limit"),
    )


_ENTRY = "through nodekit/entry.sh, which mounts a proc of its own with SYS_ADMIN"
_WEAKER = "An ordinary user has sandbox-runtime's enableWeakerNestedSandbox only"
UNMASK = {
    "guest": "Mount proc where the ladder runs, with nothing over paths below it",
    "image": f"Start the container {_ENTRY}; docker run --security-opt systempaths=unconfined does as well. {_WEAKER}",
    "pod": f"Start the container as the pod template does, {_ENTRY}. {_WEAKER}",
}
"""By the place where the ladder ran: what cures a masked /proc. NET_ADMIN and SYS_ADMIN alone do not (measured, Kata 3.32.0)."""


SLOW = "Use a node with hardware virtualization, or give the guest more vCPUs: default_vcpus in Kata's configuration"


FULL_FOLDER = r"(?:^|\n)(?:cp|mkdir|cat|(?:/bin/)?sh): |mkdtemp|, (?:open|write)\b"
"""Words of a program that has no room for its files: the kernel has the same error for a namespace too many."""


FORBIDDEN = r"[Oo]peration not permitted|[Pp]ermission denied|No permissions to create new namespace"
"""EPERM and EACCES, the last in bubblewrap's own words (bubblewrap.c, main)."""
LACKING = "Invalid argument|not implemented|likely because the kernel does not support"
"""EINVAL and ENOSYS of a kernel without a kind of namespace, the last in bubblewrap's own words."""


def _why(name: str, read: Reading, place: str, root: bool) -> tuple[str, str]:
    """Cause and remedy of a command that failed, from its exit code and its words (errors of clone(2), unshare(2), mount(2))."""
    detail = read.detail
    if name.startswith("sandbox-runtime") and re.search(r"dependencies not available|bridge sockets", detail):
        # dist/utils/which.js and the bridge of linux-sandbox-utils.js in 0.0.78; seen on a genuine Kata on an emulated node.
        return (
            "one of its programs (bwrap, socat, rg) is missing, or the guest is too slow: it gives `which` one second, "
            "and its sockets one more",
            f"Have bubblewrap, socat and ripgrep in the image. {SLOW}",
        )
    if read.value in ("124", "143"):  # of coreutils' and busybox's timeout(1)
        return "it did not end in the time that a rung has", SLOW
    if read.value == "137" or re.search(r"[Oo]ut of memory|Cannot allocate memory|^Killed$", detail, re.MULTILINE):
        return (
            "it was killed, or got no memory: the guest has too little",
            "Raise default_memory in Kata's configuration, or the container's memory limit",
        )
    if re.search(r"[Nn]o space left on device|ENOSPC", detail):
        if re.search(FULL_FOLDER, detail):
            return (
                "there is no room for its files in /tmp",
                "Give /tmp more room: default_memory in Kata's configuration where it lies in memory, the node's disk elsewhere",
            )
        return "the limit of user namespaces, of namespaces of another kind, or of their nesting, is used up", RAISE
    if name == "rootless-runc" and re.search(r"/bin/busybox.*no such file", detail, re.DOTALL):
        return "the busybox there needs shared libraries, which its container has not", "Use busybox-static"
    forbidden = re.search(FORBIDDEN, detail) is not None
    if forbidden and re.search(r"mount proc|mount: (mounting proc|/proc|permission denied)|mounting \\?\"proc", detail):
        return (
            "paths below /proc are masked, and Linux lets a user namespace mount proc only where one is fully visible "
            "(linux fs/namespace.c, mount_too_revealing)",
            UNMASK[place],
        )
    if forbidden and (not root or name.endswith("-ordinary") or name == "rootless-runc"):
        # It maps its own id alone, for which Linux asks no capability (kernel/user_namespace.c, new_idmap_permitted).
        return (
            "the guest forbids it to an ordinary user: a security module, seccomp, or a setting of its kernel",
            "Keep disable_guest_seccomp=true in Kata's configuration, and use a guest kernel that lets ordinary users make user "
            "namespaces; for one of Ubuntu set sysctl.kernel.apparmor_restrict_unprivileged_userns=0 in kata.kernelParams, for "
            "one of Debian sysctl.kernel.unprivileged_userns_clone=1",
        )
    if forbidden and re.search(r"uid.map|setgroups|unshare: write error", detail):
        inside = name.startswith("srt-call") and "bwrap" not in detail
        return (
            "bubblewrap emptied the bounding set, so that no user namespace inside its own can map uid 0"
            if inside
            else "CAP_SETFCAP is not in the bounding set, and Linux 5.12 and newer need it to map uid 0 into a user namespace",
            "Use a bubblewrap newer than 0.9, or run the sandbox as an ordinary user"
            if inside
            else "Keep SETFCAP among the container's capabilities: it is in Docker's and containerd's default set",
        )
    if forbidden:
        return (
            "the guest forbids it: a missing capability, seccomp, or a security module",
            "Grant NET_ADMIN and SYS_ADMIN, keep disable_guest_seccomp=true in Kata's configuration, and look for a security "
            "module in kata.kernelParams",
        )
    if re.search(LACKING, detail):
        return (
            "the guest's kernel lacks this kind of namespace",
            "Use a guest kernel with user, network, PID and mount namespaces",
        )
    return "the command failed or did not end in time", "Run the command in such a guest by hand; its words are above"


def _image(read: Reading) -> Finding:
    """Reported only: the proof's guest runs from its own RAM disk."""
    return (True if read.status == "ok" else None, "", "", "")


def _network(read: Reading, place: str) -> Finding:
    if read.status != "fail":
        return (True if read.status == "ok" else None, "", "", "")
    if place == "pod":
        return (
            False,
            "proof-network-missing",
            "the pod has no address in the guest",
            remedy_for("proof-network-missing", "pod-address"),
        )
    return (
        False,
        "proof-network-missing",
        "the container has no address: Docker 26.0.0 and 28 fill the network after Kata has scanned it, and Kata's "
        "internetworking_model or Docker's bridge can be wrong with any Docker",
        remedy_for("proof-network-missing", "address"),
    )


def _route(read: Reading, place: str) -> Finding:
    if read.status == "ok":
        return FINE
    return (
        False,
        "proof-network-missing",
        f"the {'pod' if place == 'pod' else 'container'} has no way out of its own network",
        remedy_for("proof-network-missing", "pod-route" if place == "pod" else "route"),
    )


def _names(read: Reading, place: str) -> Finding:
    if read.status != "fail":
        return (True if read.status == "ok" else None, "", "", "")
    if place == "pod":
        return (
            False,
            "proof-network-missing",
            "the pod resolves no name",
            remedy_for("proof-network-missing", "pod-names"),
        )
    docker = "127.0.0.11" in read.detail
    return (
        False,
        "proof-network-missing",
        "Docker's resolver 127.0.0.11 is out of a Kata guest's reach"
        if docker
        else "the container resolves no name that the node does",
        remedy_for("proof-network-missing", "names"),
    )


def _seen(name: str, read: Reading) -> str:
    """What a rung met, for a sentence: a command's own words say more than its exit code."""
    if name == "command-line":
        return "is not as expected"  # the cause names what is lacking; the whole line is in the result
    if read.status == "absent":
        return "is absent"
    return f"said {_in_sentence(read.detail)!r}" if read.status == "fail" else f"read {_in_sentence(read.value)!r}"


ANY, ROOT, FULL, WEAK = "any", "root", "full", "weak"
"""For which ladder a rung counts: any; one that runs as uid 0; one that may use the default mode of sandbox-runtime, as uid 0 or
with no masks below /proc; one that may not."""


class Command(NamedTuple):
    """A rung that runs a command: what it runs, the need that it tests, its code, and where its failure counts."""

    name: str
    title: str
    need: str
    code: str
    sandboxes: tuple[str, ...]
    """The sandboxes whose promise needs it; in all others it is reported."""
    mode: str = ANY
    """For which ladder it counts."""
    optional: bool = False
    """Whether its absence is not a failure: another rung stands for it."""
    tool: str = ""
    """A program of the node that is brought along where the rung counts, beside bubblewrap and setpriv, which always are."""


_BWRAP = ("sandbox-runtime", "bubblewrap")
_SRT = ("sandbox-runtime",)
_ROOTLESS = ("rootless",)
"""Has no weaker mode: where paths below /proc stay masked, no rootless engine starts a container."""
COMMANDS = (
    Command("unshare", "unshare -U", "user-namespaces", "proof-unshare-failed", SANDBOXES),
    Command("unshare-map-root", "unshare -Ur", "user-namespaces", "proof-unshare-failed", SANDBOXES),
    Command("unshare-nested", "unshare -Ur unshare -Ur", "user-namespaces", "proof-nested-failed", SANDBOXES),
    Command("loopback", "unshare -Urn ip link set lo up", "user-namespaces", "proof-loopback-failed", SANDBOXES),
    Command("bwrap-proc", "bwrap --unshare-net --unshare-pid --proc /proc", "capabilities", "proof-bwrap-failed", _BWRAP, FULL),
    Command("bwrap-user", "bwrap --unshare-user --unshare-net", "user-namespaces", "proof-bwrap-failed", _BWRAP),
    Command("bwrap-user-proc", "bwrap --unshare-user --proc /proc", "unmasked-proc", "proof-bwrap-failed", _BWRAP, FULL),
    Command("bwrap-ordinary", "the same as uid 1000", "unmasked-proc", "proof-bwrap-failed", _BWRAP, ROOT),
    Command(
        "srt-call",
        "sandbox-runtime's bwrap, a user namespace in it",
        "bounding-set",
        "proof-srt-failed",
        _SRT,
        FULL,
    ),
    Command("srt-call-ordinary", "the same as uid 1000", "unmasked-proc", "proof-srt-failed", _SRT, ROOT),
    Command("srt-call-weaker", "the same with enableWeakerNestedSandbox", "user-namespaces", "proof-srt-failed", _SRT, WEAK),
    Command("sandbox-runtime", "srt of the image", "unmasked-proc", "proof-srt-failed", _SRT, FULL, optional=True),
    Command(
        "sandbox-runtime-proxy", "an allowed and a denied name by srt", "proxy", "proof-srt-failed", _SRT, FULL, optional=True
    ),
    Command(
        "rootless-mounts",
        "proc and tmpfs mounted under unshare -Urmpf",
        "unmasked-proc",
        "proof-rootless-failed",
        _ROOTLESS,
    ),
    Command(
        "rootless-runc",
        "a container of runc as an ordinary user",
        "unmasked-proc",
        "proof-rootless-failed",
        _ROOTLESS,
        tool="runc",
    ),
    Command("fuse", "/dev/fuse", "fuse", "", ()),
    Command("subordinate-ids", "newuidmap and /etc/subuid", "subordinate-ids", "", ()),
)
"""The rungs that run a command, in the ladder's order. Another one is an entry here and a line in ladder.sh."""


def brought(sandbox: str | None) -> tuple[str, ...]:
    """The programs of a node that its guest and image need for a promise of `sandbox`: of bubblewrap, util-linux and runc."""
    return ("bwrap", "setpriv", *(command.tool for command in COMMANDS if command.tool and sandbox in command.sandboxes))


TITLES = {
    "boot-id": "/proc/sys/kernel/random/boot_id",
    "command-line": "/proc/cmdline",
    "image": "Kata's image as a file system",
    "entry": "mount -t proc proc /proc by entry.sh",
    "user-namespaces": "/proc/sys/user/max_user_namespaces",
    **{command.name: command.title for command in COMMANDS},
    "network": "an interface with an address",
    "route": "a default route",
    "name-resolution": "name resolution",
}
"""What each rung looks at or runs, for sentences."""
REQUIRED = (
    "boot-id",
    "kernel",
    "command-line",
    "user-namespaces",
    "uid",
    "proc-masks",
    "entry",
    *(command.name for command in COMMANDS),
)
"""Lines that a whole transcript has."""
DECISIVE = ("kernel", "uid", "proc-masks")
"""Lines without a reading of which it is not known who climbed where, and so which rungs count."""
PLACES = ("guest", "image", "pod")
"""Where the ladder can run: in the proof's own guest, in a container of an image, in a pod."""


def _command(command: Command, sandbox: str | None, modes: set[str], place: str) -> tuple[bool, Callable[[Reading], Finding]]:
    """Whether the rung counts for a promise of `sandbox`, and what a reading of it means; `modes` are the ladder's."""
    counts = sandbox in command.sandboxes and command.mode in modes

    def judged(read: Reading) -> Finding:
        if read.status == "ok":
            return FINE
        if read.status == "fail":
            return (False, command.code, *_why(command.name, read, place, ROOT in modes))
        if not counts or command.optional:
            return (None, "", "", "")
        return (
            None,
            "proof-tool-missing",
            f"{_in_sentence(read.detail)}, so this was not tried",
            remedy_for("proof-tool-missing", place),
        )

    return counts, judged


def _readable(name: str, read: Reading) -> bool:
    """Whether a line has a reading; a user is a number as the kernel writes it."""
    return read.status == "ok" and (name != "uid" or re.fullmatch(r"0|[1-9][0-9]{0,9}", read.value) is not None)


def judge(
    transcript: str,
    nonce: str,
    node_boot_id: str,
    expected_tokens: Sequence[str],
    *,
    sandbox: str | None = SANDBOXES[0],
    network: bool = False,
    place: str = "guest",
) -> Verdict:
    """The verdict on what ladder.sh printed; every text in it is bounded and safe to show.

    `sandbox`: which of SANDBOXES is promised to work; None for none, when its rungs are reported and do not count.
    `network`: the ladder was asked to look for one. `place`: one of PLACES. A rung that counts and was not tried, since a tool
    is missing, fails as `proof-tool-missing`.
    """
    read, whole = readings(transcript, nonce)
    required = [*REQUIRED, *(("network", "route", "name-resolution") if network else ())]
    lacking = [name for name in required if name not in read]
    unread = [name for name in DECISIVE if name in read and not _readable(name, read[name])]
    kernel = _in_sentence(read["kernel"].value) if "kernel" in read else ""
    command_line = read["command-line"].value if "command-line" in read else ""
    root = "uid" in read and read["uid"].value == "0"
    masked = "proc-masks" not in read or read["proc-masks"].value != ""
    can_make = "unshare" in read and read["unshare"].status == "ok"

    def user_namespaces(reading: Reading) -> Finding:
        finding = _user_namespaces(reading, command_line, kernel, can_make)
        return _as_expected(reading, expected_tokens) if finding is FINE else finding

    modes = {ANY, WEAK if masked and not root else FULL, *((ROOT,) if root else ())}
    rules: list[tuple[str, str, bool, Callable[[Reading], Finding]]] = [
        ("boot-id", "guest", True, lambda reading: _boot_id(reading, node_boot_id)),
        ("command-line", "parameters", True, lambda reading: _parameters(reading, expected_tokens)),
        ("image", "guest", False, _image),
        ("entry", "unmasked-proc", sandbox is not None, lambda reading: _entry(reading, place)),
        ("user-namespaces", "user-namespaces", sandbox is not None, user_namespaces),
        *((command.name, command.need, *_command(command, sandbox, modes, place)) for command in COMMANDS),
        ("network", "network", True, lambda reading: _network(reading, place)),
        ("route", "network", True, lambda reading: _route(reading, place)),
        ("name-resolution", "network", True, lambda reading: _names(reading, place)),
    ]
    rungs: list[Rung] = []
    first: tuple[str, str, str] | None = None
    for name, need, counts, rule in rules:
        if name not in read:
            continue
        reading = read[name]
        passed, code, cause, remedy = rule(reading)
        rungs.append(Rung(name, need, passed, counts, reading.value, reading.detail, cause, remedy, reading.at))
        if code and counts and first is None:
            first = (code, f"rung {name} ({TITLES[name]}) {_seen(name, reading)}: {cause}", remedy)
    number = read["user-namespaces"].value if "user-namespaces" in read else ""
    limit = int(number) if re.fullmatch(r"[0-9]{1,10}", number) else -1
    if first is None and (lacking or unread or not whole):
        fault = f"lacks {', '.join([*lacking, *unread])}" if lacking or unread else "has no end"
        if not whole and f"{nonce} end" in transcript[:MAX_TRANSCRIPT]:  # what follows such a line was reported, and not read
            fault = f"has a line that is garbled, or stands twice, behind {next(reversed(read), 'its start')}"
        first = (
            "proof-transcript-incomplete",
            f"the ladder was started and its transcript {fault}; lines read: {', '.join(read) or 'none'}",
            remedy_for("proof-transcript-incomplete"),
        )
    boot_id = read["boot-id"].value if "boot-id" in read else ""
    return Verdict(tuple(rungs), limit, kernel, printable(command_line, MAX_VALUE), boot_id, *(first or (None, "", "")))
