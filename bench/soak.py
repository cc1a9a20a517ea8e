"""What grows when a stack is made, changed, failed, cured and destroyed again and again: `python bench/soak.py ROUNDS`.

Each round is five runs of the real engine on a real Debian in namespaces: `up`, a change of its parameters, a guest that reads 0
and so fails the proof, its cure, and `destroy`. After each, everything that could grow is counted; 1 when something has.
"""

import io
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.fault_story import STACK, Story, stories

ROUNDS = 50
ALLOWED_MEMORY = 1.25
"""Most that memory may be at the end, as a multiple of the most of the first rounds: caches take their time."""
SAMPLES = 5
"""Counts after each round, of which the least one is what stays: a host always does something of its own for a moment."""
SETTLING = 2
"""Rounds after which caches are filled; growth is counted from there."""
COUNT = r"""
import json, os
from contextlib import suppress
from pathlib import Path
def files(*roots):
    return sum(len(names) for root in roots for _, _, names in os.walk(root))
def listening():
    lines = [line for kind in ("tcp", "tcp6", "udp", "udp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return sum(line.split()[3] in ("0A", "07") for line in lines)
processes = open_files = memory_kib = 0
for entry in Path("/proc").glob("[0-9]*"):
    with suppress(OSError):  # it has just ended
        if entry.name != str(os.getpid()) and (entry / "cmdline").read_bytes():
            status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
            open_files += len(os.listdir(entry / "fd"))
            memory_kib += int(status["VmRSS"].split()[0])
            processes += 1
print(json.dumps({
    "processes": processes,
    "open_files": open_files,
    "ports": listening(),
    "sockets": len(Path("/proc/net/unix").read_text().splitlines()),
    "mounts": len(Path("/proc/mounts").read_text().splitlines()),
    "disk_files": files("/mnt/upper"),
    "memory_files": files("/run", "/tmp", "/dev/shm"),
    "memory_kib": memory_kib,
}))
"""
"""Counts on the host, as root there."""


@dataclass(frozen=True)
class Figures:
    """What was counted after a round: on the host up to `memory_kib`, then on the engine's side."""

    processes: int
    open_files: int
    ports: int
    sockets: int
    mounts: int
    disk_files: int
    """Files that differ from the host's image, everywhere."""
    memory_files: int
    memory_kib: int
    """Resident memory of all processes of the host."""
    state_bytes: int
    engine_processes: int
    engine_temporary: int
    """Files that engine and plugins left in their folder of temporary files."""


def figures(story: Story, temporary: Path) -> Figures:
    """Count now."""
    samples = []
    for _ in range(SAMPLES):
        samples.append(json.loads(story.host.node.ask("python3", "-I", "-c", COUNT)))
        time.sleep(1)
    host = {name: min(sample[name] for sample in samples) for name in samples[0]}
    (checkpoint,) = story.checkout.folder.rglob(f"stacks/*/{STACK}.json")
    return Figures(
        **host,
        state_bytes=checkpoint.stat().st_size,
        engine_processes=len(story.checkout.processes()),
        engine_temporary=sum(1 for path in temporary.rglob("*") if path.is_file()),
    )


def one_round(story: Story) -> None:
    """Up, change, fail, cure, destroy."""
    story.parameters()
    story.well()
    story.parameters("sysctl.user.max_user_namespaces=9000")
    story.well()
    story.parameters("sysctl.user.max_user_namespaces=0")
    failed = story.run("up", 300)
    assert failed.status != 0 and "[proof-user-namespaces-zero]" in failed.printed, failed.printed[-3000:]
    story.parameters("sysctl.user.max_user_namespaces=8000")
    story.well()
    story.well("destroy")


def grown(counted: list[Figures]) -> list[str]:
    """What is more at the end than it was once everything had settled."""
    settled, last = counted[: SETTLING + 1], counted[-1]
    differences = []
    for field in fields(Figures):
        most, now = max(getattr(each, field.name) for each in settled), getattr(last, field.name)
        if now > most * (ALLOWED_MEMORY if field.name == "memory_kib" else 1):
            differences.append(f"{field.name}: {most} -> {now}")
    return differences


def soak(rounds: int) -> list[str]:
    """Run the rounds and print what is counted after each; what has grown."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, stories(Path(folder)) as story:
        temporary = Path(folder) / "temporary"
        temporary.mkdir()
        story.checkout.environment["TMPDIR"] = str(temporary)
        before = story.look()
        counted = []
        print(" ".join(["round", "seconds", *(field.name for field in fields(Figures))]), flush=True)
        for number in range(1, rounds + 1):
            begin = time.monotonic()
            with redirect_stdout(io.StringIO()) as printed:
                try:
                    one_round(story)
                except BaseException:
                    print(printed.getvalue(), file=sys.stderr)
                    raise
            assert story.look() == before, f"a trace of round {number}"
            counted.append(figures(story, temporary))
            values = [f"{time.monotonic() - begin:.0f}", *map(str, asdict(counted[-1]).values())]
            print(" ".join([str(number), *values]), flush=True)
    return grown(counted)


def main(
    rounds: Annotated[int, typer.Argument(min=1, help="Rounds of five runs each; about a minute a round.")] = ROUNDS,
) -> None:
    """What grows when a stack is made, changed, failed, cured and destroyed again and again. Exit 1 when something has."""
    differences = soak(rounds)
    print("\n".join(["grown:", *differences]) if differences else "nothing has grown")
    raise typer.Exit(1 if differences else 0)


if __name__ == "__main__":
    typer.run(main)
