"""What the ladder adds to a guest's boot: the same kernel with a first process that ends at once, and with the proof's.

    python bench/proof_time.py [--kernel FILE] [--runs 9] [--accel kvm]

prints the seconds from QEMU's start to the verdict, in turns, and the ratios of the medians and of the minima: on a busy
machine only the minima say something. Each boot that is timed follows one of the proof that is not: on a virtual machine whose
host takes free memory away, a boot pays for all that it needs beyond the boot before it, a quarter of a second after a bare one.
"""

import stat
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nodekit.host import initramfs
from nodekit.host.guest import Plan, boot, find_qemu, new_nonce
from nodekit.host.initramfs import Entry, cpio, folder, program, static_busybox
from nodekit.host.node import boot_id
from nodekit.rules.proof.ladder import Verdict, judge
from nodekit.rules.proof.sandboxes import SANDBOXES
from tests.nodekit.kernel import find_kernel

BARE = "#!/kata-nodes/busybox sh\n/kata-nodes/busybox echo {end}\n/kata-nodes/busybox reboot -f\n"
"""A first process that says only that user space was reached."""
DEV, CONSOLE = folder("dev"), Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
LIMIT = 1.15
"""Most that the proof may take, as a multiple of the bare boot."""


def bare(end: str) -> bytes:
    """The least RAM disk: busybox, and a first process that ends at once."""
    first = BARE.format(end=end).encode()
    return cpio(
        [DEV, CONSOLE, folder("kata-nodes"), program("kata-nodes/busybox", static_busybox()), program("kata-nodes/init", first)]
    )


def timed(plan: Plan, accel: str, nonce: str | None = None) -> tuple[float, Verdict | None]:
    """Seconds of one boot, and with `nonce` the verdict, judged within them; ends the program when the guest did not come up."""
    begin = time.monotonic()
    result = boot(plan, accel=accel, timeout=120)
    verdict = judge(result.console, nonce, boot_id(Path("/")), [], sandbox=SANDBOXES[0]) if nonce else None
    seconds = time.monotonic() - begin
    if not result.reached:
        sys.exit(f"the guest did not come up: {result.console[-300:]} {result.qemu_stderr[-300:]}")
    return seconds, verdict


def main(
    kernel: Annotated[Optional[str], typer.Option(help="Guest kernel; without it the one of the tests.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Boots of each kind, in turns.")] = 9,
    accel: Annotated[Literal["tcg", "kvm"], typer.Option(help="QEMU's accelerator.")] = "tcg",
) -> None:
    """What the ladder adds to a guest's boot. Exit 1 when the ratio of the medians is above the limit."""
    kernel = kernel or str(find_kernel())
    nonce = new_nonce()
    append = f"console=ttyS0 quiet panic=1 reboot=k rdinit={initramfs.FIRST_PROCESS}"
    disk = initramfs.build(nonce, sandbox=SANDBOXES[0])
    proof = Plan(find_qemu() or "qemu-system-x86_64", kernel, (disk,), None, append, 256, 1, f"{nonce} end")
    plain = proof._replace(initrd=(bare("bare-end"),), end="bare-end")
    seconds: dict[str, list[float]] = {"bare": [], "proof": []}
    for _ in range(runs):
        timed(proof, accel)
        seconds["bare"].append(timed(plain, accel)[0])
        timed(proof, accel)
        spent, verdict = timed(proof, accel, nonce)
        seconds["proof"].append(spent)
        if verdict is None or not verdict.passed:
            sys.exit(f"the ladder did not pass, so its time means nothing: {verdict and verdict.message}")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name:6} min {min(values):6.2f} s  median {medians[name]:6.2f} s  max {max(values):6.2f} s")
    ratio = medians["proof"] / medians["bare"]
    of_minima = min(seconds["proof"]) / min(seconds["bare"])
    print(f"ratio {ratio:.3f}, of the minima {of_minima:.3f} (limit {LIMIT}; {kernel}, {accel}, {runs} runs in turns)")
    raise typer.Exit(0 if ratio <= LIMIT else 1)


if __name__ == "__main__":
    typer.run(main)
