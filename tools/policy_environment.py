"""Make the environment of the policy pack, once for each content of its lock, and print the path of its Python."""

import sys

from tools.cache import exit_status
from tools.environment import CHECKOUT, virtual_environment


def main() -> int:
    """Print the path."""
    lock = CHECKOUT / "policy" / "requirements.txt"
    return exit_status(lambda: print(virtual_environment(lock) / "bin" / "python"))


if __name__ == "__main__":
    sys.exit(main())
