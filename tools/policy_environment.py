"""Make the environment of the policy pack, once for each content of its lock, and print the path of its Python."""

import sys

from tools.cache import SetupError
from tools.environment import CHECKOUT, virtual_environment


def main() -> int:
    """Print the path."""
    try:
        print(virtual_environment(CHECKOUT / "policy" / "requirements.txt") / "bin" / "python")
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
