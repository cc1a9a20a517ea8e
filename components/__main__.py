"""Hosts the components as the Pulumi package kata-nodes; the engine starts this folder as a program."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The folder is a package of the repository around it, wherever that was fetched to. It must not be on the import path itself.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

    from pulumi.provider import main

    from components.many_resources import prepare
    from components.package import provider

    prepare()
    main(provider(), sys.argv[1:])
