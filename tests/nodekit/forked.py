"""A process of its own for a part of the node program, without the third of a second in which an interpreter starts."""

import gc
import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from nodekit.__main__ import VERBS, _module, main

for _name in VERBS:
    _module(_name)


def run(part: Callable[[], int | None], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Call `part` in a child with these variables more; its exit code, negative for a signal, and its standard error."""
    with tempfile.TemporaryFile("w+") as log:
        child = os.fork()
        if child == 0:
            gc.disable()  # it would copy all that it looks at
            code = 70
            try:
                os.environ.update(environment or {})
                os.dup2(log.fileno(), 2)
                sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 # of the process
                code = part() or 0
            except SystemExit as ending:
                code = int(ending.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        log.seek(0)
        return code, log.read()


def verb(name: str, root: Path, state: dict[str, object], **environment: str) -> tuple[int, str]:
    """Run a verb as the command line does; its exit code and standard error."""

    def part() -> int:
        sys.stdin, sys.stdout = io.StringIO(json.dumps(state)), io.StringIO()
        return main([name, "--root", str(root)])

    return run(part, environment)
