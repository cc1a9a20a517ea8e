"""Names this process's own user and home where the system knows neither, as in a container that runs with any user id."""

import getpass
import os
from pathlib import Path

ROOT_FOLDER = "/"
"""What container runtimes set as the home of a user that /etc/passwd does not have."""


def complete() -> None:
    """Set LOGNAME and HOME where nothing else tells them.

    The SSH library dials nothing without, although each login names its own user and key, and a path that begins with `~` ends
    a program with a traceback.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["LOGNAME"] = str(os.getuid())
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = ROOT_FOLDER
