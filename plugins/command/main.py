"""Starts the plugin: the engine runs this file with its own address as the only argument, from any folder."""

import sys
from pathlib import Path

# The folder of a script comes first on the path, where its modules could hide others; the repository root does not.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from plugins.command.server import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
