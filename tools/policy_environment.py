"""Make the environment of the policy pack, once for each content of its lock, and print the path of its Python."""

import argparse
import sys

from tools.cache import exit_status
from tools.environment import CHECKOUT, virtual_environment


def main() -> int:
    """Print the path."""
    argparse.ArgumentParser(prog="tools.policy_environment", description=__doc__).parse_args()
    lock = CHECKOUT / "policy" / "requirements.txt"
    return exit_status(lambda: print(virtual_environment(lock) / "bin" / "python"))


if __name__ == "__main__":
    sys.exit(main())
