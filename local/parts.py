"""Names the built programs and images that the programs of this folder run, where their caller names none."""

from collections.abc import Mapping

from local.process import LocalError
from tools import local as tooling
from tools.cache import SetupError


def completed(given: Mapping[str, object], parts: Mapping[str, str]) -> dict[str, object]:
    """`given`, with each missing key of `parts` (own key to the part's name) filled from the cache, made if need be.

    Raises `LocalError` when set-up cannot make a part.
    """
    if all(key in given for key in parts):
        return dict(given)
    try:
        made = tooling.parts()
    except SetupError as error:
        raise LocalError("no-part", str(error), "fix that and run it again") from error
    return {**{key: made[name] for key, name in parts.items()}, **given}
