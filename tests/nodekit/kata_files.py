"""Awkward but valid configuration texts, and Kata's own rendered ones where they lie beside the checkout."""

from pathlib import Path

RENDERED = Path(__file__).resolve().parents[3] / "shared" / "kata-configs"
"""Rendered files of releases, `<version>/<runtime>/configuration-*.toml`; a checkout alone has none."""

BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
"""What releases from 3.15.0 on have; without it guests do not start."""

PLAIN = f"""# head
[hypervisor.qemu]
path = "/opt/kata/bin/qemu"
# kernel_params = "vsyscall=emulate"
kernel_params = "{BASE}"  # tail

[hypervisor.qemu.factory]
kernel_params = 7

[hypervisor.firecracker]
kernel_params = "console=ttyS0"

[runtime]
text = \"\"\"
[hypervisor.qemu]
kernel_params = "not this"
\"\"\"
"""

LITERALS = {
    "plain": f'"{BASE}"',
    "single quotes": f"'{BASE}'",
    "multi-line": f'"""\n{BASE}"""',
    "multi-line literal": f"'''{BASE}'''",
    "continued": f'"""\\\n    {BASE}"""',
    "escapes": '"cgroup_no_v1=\\u0061ll systemd.unified_cgroup_hierarchy=1"',
}
"""Ways to write that base in TOML."""

OUT_OF_ORDER = f"""[hypervisor.qemu.factory]
a = 1
[runtime]
b = 2
[hypervisor.qemu]
kernel_params = "{BASE}"
[hypervisor.clh]
kernel_params = "x"
"""

AWKWARD = {
    **{name: PLAIN.replace(LITERALS["plain"], literal) for name, literal in LITERALS.items()},
    "crlf": PLAIN.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + PLAIN,
    "no final newline": PLAIN.rstrip("\n"),
    "spaces": PLAIN.replace("[hypervisor.qemu]\npath", '[ hypervisor . "qemu" ]\npath').replace(
        'kernel_params = "cg', '\t"kernel_params"   =   "cg'
    ),
    "dotted": f'hypervisor.qemu.kernel_params = "{BASE}" # tail\nhypervisor.qemu.path = "p"\n[runtime]\na = 1\n',
    "dotted in a table": f'[hypervisor]\nqemu.path = "p"\nqemu.kernel_params = "{BASE}"\nfirecracker.kernel_params = "x"\n',
    "inline": f'[hypervisor]\nqemu = {{ path = "p", kernel_params = "{BASE}", n = 1 }} # tail\n',
    "other tables first": f'[a]\nkernel_params = "x"\n[[b]]\nkernel_params = "y"\n[hypervisor.qemu]\nkernel_params="{BASE}"',
    "out of order": OUT_OF_ORDER,
    "many hypervisors": "".join(
        f'[hypervisor.{name}]\nkernel_params = "{BASE}"\n'
        for name in ("acrn", "clh", "dragonball", "firecracker", "qemu", "remote")
    ),
    "bare carriage return in a string's escape": f'[hypervisor.qemu]\na = "\\r\\u0000"\nkernel_params = "{BASE}" # \t tail\n',
    "crlf and byte order mark": "\ufeff" + PLAIN.replace("\n", "\r\n"),
    "inline in inline": f'hypervisor = {{ qemu = {{ kernel_params = "{BASE}" }}, clh = {{ kernel_params = "x" }} }}\n',
    "array before": f'[hypervisor.qemu]\nlist = [\n  "kernel_params = 1", # c\n  "]",\n]\nkernel_params = "{BASE}"\n',
}


def put(root: Path, path: str, text: str) -> Path:
    """Write a file as it would lie on a node, folders and all."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def setting(value: str, hypervisor: str = "qemu") -> str:
    """A file that sets `kernel_params` and nothing else."""
    return f'[hypervisor.{hypervisor}]\nkernel_params = "{value}"\n'
