"""Runs on a node: start the node program that comes on standard input, before the desired state; no file of it remains.

The first argument is its sha256, the second the verb. Standard input, of which this code was the beginning: the program in base64
on one line, then what it reads.
"""

import base64
import hashlib
import os
import sys

LIMIT = 64 << 20


def main() -> None:
    program = base64.b64decode(sys.stdin.buffer.readline(LIMIT))
    if hashlib.sha256(program).hexdigest() != sys.argv[1]:
        sys.exit("error: the node program did not arrive whole. Run again. [program-damaged]")
    handles = []
    for content in (program, sys.stdin.buffer.read(LIMIT)):
        handle = os.memfd_create("nodekit")
        with open(handle, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(handle, 0, os.SEEK_SET)
        os.set_inheritable(handle, True)
        handles.append(handle)
    os.dup2(handles[1], 0)
    os.execv(sys.executable, [sys.executable, "-I", f"/proc/self/fd/{handles[0]}", sys.argv[2]])


main()
