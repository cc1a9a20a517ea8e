"""Merge guest kernel parameters by key, as the kernel reads them, and refuse those that no guest could be given."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.text import printable

MAX_COMMAND_LINE = 2047
"""Bytes of a command line that an x86 kernel reads (COMMAND_LINE_SIZE less the NUL); one more and it does not boot [measured]."""
KATA_ADDS = 640
"""Bytes kept free for what Kata puts before the user's parameters: its defaults, root file system, agent and systemd units
(about 560 with QEMU and an image without debugging; the guest proof measures the real line)."""
LIMIT = "sysctl.user.max_user_namespaces"
"""What sets the guest's limit on user namespaces at boot, on kernels from 5.8 [measured]."""
HIGHEST_LIMIT = 2147483647
"""The highest value that it takes (kernel/ucount.c)."""

REPEATABLE = {
    "console": "each names one more console",
    "earlycon": "each names one more early console",
    "pci": "each is a list of options that are added up",
    "acpi_osi": "each adds or removes one string",
    "cgroup_disable": "each adds controllers",
    "cgroup_no_v1": "each adds controllers (kernel/cgroup/cgroup-v1.c)",
    "clearcpuid": "each clears further bits",
    "dyndbg": "each adds a query",
    "hugepages": "belongs to the hugepagesz before it",
    "hugepagesz": "each begins a further page size",
    "initcall_blacklist": "each adds functions",
    "memmap": "each adds a region",
    "modprobe.blacklist": "each adds modules (kmod, libkmod-config.c, `kcmdline_parse_result`)",
    "systemd.mask": "each masks one more unit",
    "systemd.set_credential": "each sets one more credential (systemd(1))",
    "systemd.set_credential_binary": "each sets one more credential (systemd(1))",
    "systemd.setenv": "each sets one more variable",
    "systemd.wants": "each wants one more unit",
    "virtio_mmio.device": "each adds a device",
}
"""Key -> why it may stand several times, all of them meant: such a parameter is added, and replaces nothing."""

_BLANK = " \t\n\r\v\f"
_TOKEN = re.compile(rf'[{_BLANK}]*((?:"[^"]*(?:"|\Z)|[^"{_BLANK}])*)')


class Parameter(NamedTuple):
    """One parameter of a command line as it is written, and the blanks before it."""

    text: str
    """The parameter as it is written, quotes included; empty only for blanks at the very end of a line."""
    gap: str = " "
    """The blanks before it."""

    @property
    def name(self) -> str:
        """What stands before the first `=`; a quote that opens the whole parameter is not a part of it."""
        return self.text.removeprefix('"').partition("=")[0].removesuffix('"')

    @property
    def value(self) -> str | None:
        """What stands after the first `=` without its quotes; None when there is no `=`."""
        _, mark, value = self.text.removeprefix('"').partition("=")
        return value.removeprefix('"').removesuffix('"') if mark else None

    @property
    def key(self) -> str:
        """Equal for two names that the kernel takes for one.

        Dashes and underscores are equal (kernel/params.c, `parameq`); in `sysctl.` parameters a slash is a dot
        (fs/proc/proc_sysctl.c, `process_sysctl_arg`) and a dash is only itself.
        """
        if self.name.startswith(("sysctl.", "sysctl/")):
            return self.name.replace("/", ".")
        return self.name.replace("-", "_")


def parse(text: str) -> list[Parameter]:
    """The parameters of a command line, split as the kernel splits it: at blanks outside double quotes.

    `format(parse(text)) == text` for every text. Blanks at the end are a last `Parameter` without text; see `tokens`.
    """
    parameters: list[Parameter] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None  # every part of the pattern may be empty
        parameters.append(Parameter(match[1], text[at : match.start(1)]))
        at = match.end()
    return parameters


def format(parameters: Iterable[Parameter]) -> str:
    """The command line that these parameters make."""
    return "".join(parameter.gap + parameter.text for parameter in parameters)


def tokens(text: str) -> list[str]:
    """The parameters of a command line as they are written, without blanks."""
    return [parameter.text for parameter in parse(text) if parameter.text]


def of_the_kernel(text: str) -> list[Parameter]:
    """The parameters of a command line that the kernel reads: what follows a `--` is for init."""
    parameters = parse(text)
    return parameters[: _end(parameters)]


def replacements(text: str, expected: Iterable[str]) -> dict[str, str]:
    """Expected parameters of a command line that another value of their key stands after: expected -> the one in effect.

    The kernel takes the last of a key that is not REPEATABLE; what follows a `--` is for init.
    """
    last = {parameter.key: parameter for parameter in of_the_kernel(text)}
    pairs = ((early, last.get(early.key, early)) for early in map(Parameter, expected) if early.key not in REPEATABLE)
    return {early.text: later.text for early, later in pairs if later.value != early.value}


def merge(text: str, additions: Sequence[str]) -> str:
    """`text` with each addition in effect; everything else keeps its place, its spelling and its blanks.

    A key that may stand several times (`REPEATABLE`) is added unless exactly that parameter is there. Any other key
    replaces the last one of its name, which is the one that the kernel honours; a new one is added at the end, before a
    `--` (what follows that is for init). Merging again changes nothing. Raises NodeError `bad-kernel-parameter` when
    `text` has an unbalanced quote, which would swallow whatever is added.
    """
    if text.count('"') % 2:
        raise NodeError("bad-kernel-parameter", f"kernel_params holds an unbalanced quote: {printable(text, 200)}", "quotes")
    parameters = parse(text)
    for addition in additions:
        new = Parameter(addition)
        end = _end(parameters)
        while end and not parameters[end - 1].text:
            end -= 1
        same = [at for at in range(end) if parameters[at].key == new.key]
        if new.key in REPEATABLE:
            if any(parameters[at].text == addition for at in same):
                continue
            same = []
        if same:
            parameters[same[-1]] = Parameter(addition, parameters[same[-1]].gap)
        else:
            parameters.insert(end, Parameter(addition, " " if end else ""))
            if end == 0 and len(parameters) > 1 and not parameters[1].gap:
                parameters[1] = Parameter(parameters[1].text)
    return format(parameters)


def _end(parameters: Sequence[Parameter]) -> int:
    """Where the kernel's part ends: at the `--` before what is for init."""
    return next((at for at, parameter in enumerate(parameters) if parameter.text == "--"), len(parameters))


def unmerge(text: str, base: str, ours: Sequence[str]) -> str:
    """`text` without those of `ours` that `base` did not have; a parameter of `base` that one of them replaced comes back.

    For a text that somebody edited after `merge(base, ours)` was written to it.
    """
    before = parse(base)
    before = before[: _end(before)]
    parameters = parse(text)
    end = _end(parameters)
    kept: list[Parameter] = []
    for parameter in parameters[:end]:
        if parameter.text in ours and all(parameter.text != other.text for other in before):
            replaced = [b for b in before if b.key == parameter.key and b.key not in REPEATABLE]
            if not replaced:
                continue
            parameter = Parameter(replaced[-1].text, parameter.gap)
        kept.append(parameter)
    kept += parameters[end:]
    if kept and not text[:1].isspace():
        kept[0] = Parameter(kept[0].text, "")
    return format(kept)


def command_line_budget() -> int:
    """Bytes that `kernel_params` may hold."""
    return MAX_COMMAND_LINE - KATA_ADDS


def check(additions: Sequence[str], base: str = "") -> None:
    """Refuse what cannot be written into a guest's command line, or would not fit there merged into `base`.

    Raises NodeError `bad-kernel-parameter` or `kernel-parameters-too-long`.
    """
    for addition in additions:
        reason = _refusal(addition)
        if reason:
            raise NodeError("bad-kernel-parameter", f"Kernel parameter {printable(repr(addition), 120)} {reason}")
    for at, addition in enumerate(additions):
        new = Parameter(addition)
        for other in additions[:at]:
            if new.key == Parameter(other).key and new.key not in REPEATABLE and addition != other:
                raise NodeError(
                    "bad-kernel-parameter",
                    f"Kernel parameter {new.name} is asked for twice, as {printable(other, 120)} and as "
                    f"{printable(addition, 120)}",
                    "doubled",
                )
    whole = merge(base, additions)
    size = len(whole.encode(errors="surrogatepass"))
    if size > command_line_budget():
        raise NodeError(
            "kernel-parameters-too-long",
            f"kernel_params would be {size} bytes; {command_line_budget()} fit: an x86 kernel reads {MAX_COMMAND_LINE} bytes "
            f"and Kata adds up to {KATA_ADDS} of its own",
            "by-bytes",
            excess=size - command_line_budget(),
            details={"bytes": size, "budget": command_line_budget()},
        )


def _refusal(text: str) -> str | None:
    """Why one parameter cannot be written, or None.

    An empty value: Go `hypervisor.go`, `SerializeParams`; Rust `kernel_param.rs`, `Param::to_string`. One in quotes, `key=""`,
    passes both as it is written.
    """
    if any(not " " <= c <= "~" for c in text):
        return "holds a control character or one outside ASCII"
    if text.count('"') % 2:
        return "has an unbalanced quote"
    if tokens(text) != [text]:
        return "is empty, begins or ends with a blank, or is more than one parameter"
    if not Parameter(text).name:
        return "has no name"
    if text.endswith("=") and text.count("=") == 1:
        return "has no value after its =, and Kata writes it without the ="
    if text == "--":
        return "ends the kernel's parameters: what follows is for init"
    return None


def inert(parameter: str) -> str | None:
    """Why a parameter does nothing in a mainline guest kernel, or None when no such reason is known."""
    parsed = Parameter(parameter)
    reasons = {
        "user_namespace.enable": "only the kernel of RHEL and CentOS 7 knows it; any other silently drops it. "
        "What sets the limit is sysctl.user.max_user_namespaces=N",
        "namespace.unpriv_enable": "only the kernel of RHEL and CentOS 7 knows it; any other silently drops it",
        "sysctl.kernel.unprivileged_userns_clone": "only Debian's and Arch's kernels know it; Kata's is mainline",
    }
    return reasons.get(parsed.key)


def note(parameter: str) -> str | None:
    """What a person should know about a parameter that is written as asked, or None."""
    parsed = Parameter(parameter)
    if parsed.key != LIMIT:
        return None
    number = limit(parsed.value or "")
    if number is None:
        return f"{parameter} is not a number up to {HIGHEST_LIMIT}: the kernel ignores it"
    if number == 0:
        return f"{parameter} forbids user namespaces in the guest: the proof of a nested sandbox will fail"
    return None


def limit(value: str) -> int | None:
    """The limit that a value of LIMIT sets, in any base that the kernel reads (kernel/sysctl.c, `proc_get_long`).

    None for one that it ignores, which is no number or too large.
    """
    match = re.fullmatch(r"0[xX]([0-9a-fA-F]{1,16})|(0[0-7]{0,20})|([1-9][0-9]{0,18})", value)
    if match is None:
        return None
    number = next(int(digits, base) for digits, base in zip(match.groups(), (16, 8, 10), strict=True) if digits)
    return number if number <= HIGHEST_LIMIT else None
