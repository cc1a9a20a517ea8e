"""Getting the real parts on a machine: engine, plugins, servers, the local node image. No product code."""

import sys

if sys.version_info < (3, 11):  # or the first module that is missing would be the message
    sys.exit(f"error: python3 is Python {sys.version.split()[0]}. Put Python 3.11 to 3.14 first on PATH as python3.")
