"""The cost of a run without changes on a node, compared with what its Python must do in any case. Run by `make bench`.

Every figure is the least of ROUNDS runs, taken in turns so that a busy machine slows all of them alike. The measure is
`python3` starting and importing tomlkit from the same file that the node program is: a zipapp is compiled at each start.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.nodekit.debian_node import PROGRAM, booted, image, program

ROUNDS = 30
LIMIT = 1.5
"""Most that a no-op run may take, as a multiple of the measure."""


def main() -> int:
    """Print the figures; 1 when a ratio is above the limit."""
    with booted(image(), program()) as node:
        verbs = {"kata": node.kata(), "docker": node.docker()}
        for verb, state in verbs.items():
            node.succeed(verb, state)
        enter = node.command("python3", "-I")
        load = ["-c", f"import sys; sys.path.insert(0, {PROGRAM!r}); import tomlkit"]
        runs: dict[str, tuple[list[str], str]] = {
            "python3 alone": ([*enter, "-c", "pass"], ""),
            "python3 and tomlkit": ([*enter, *load], ""),
            **{verb: ([*enter, PROGRAM, verb], json.dumps(state)) for verb, state in verbs.items()},
        }
        fastest = dict.fromkeys(runs, float("inf"))
        for _ in range(ROUNDS):
            for name, run in runs.items():
                fastest[name] = min(fastest[name], seconds(*run))
        assert all(node.succeed(verb, state)["changed"] is False for verb, state in verbs.items())
    measure = fastest["python3 and tomlkit"]
    for name, value in fastest.items():
        print(f"{name:20} {value * 1000:6.1f} ms   {value / measure:5.2f}")
    worst = max(fastest[verb] / measure for verb in verbs)
    print(f"worst ratio of a no-op run: {worst:.2f} (limit {LIMIT})")
    return int(worst > LIMIT)


def seconds(argv: list[str], stdin: str) -> float:
    """How long a command takes; it must succeed."""
    begin = time.perf_counter()
    subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
