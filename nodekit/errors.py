"""The error type of everything that a person can act on. The catalogue holds what each code means, and its remedy.

XX
`plugins.command.errors.CommandError` is a command that failed, in the words of the plugin that it stands in for, and
`tools.cache.SetupError` is a set-up that runs before this package can be imported.
"""

from collections.abc import Mapping

from nodekit import failures
from nodekit.failures import Failure
from nodekit.rules.text import harmless

CATALOGUE: dict[str, Failure] = dict(failures.CATALOGUE)
"""Code -> its failure, of a node and of every room that is imported."""


def add(catalogue: Mapping[str, Failure], cases: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Make a room's failures known, and its remedies for failures that are known already.

    A room does so when it is imported. So the node program holds nothing that can fail only elsewhere, and its digest does not
    depend on it. Raises ValueError for a code, or a case of one, that is known already.
    """
    doubled = [code for code in catalogue if code in CATALOGUE]
    known = {**CATALOGUE, **catalogue}
    for code, remedies in (cases or {}).items():
        doubled += [f"{code} {case}" for case in remedies if case in known[code].cases]
        known[code] = known[code]._replace(cases={**known[code].cases, **remedies})
    if doubled:
        raise ValueError(f"already in the catalogue of error codes: {', '.join(doubled)}")
    CATALOGUE.update(known)


def remedy_for(code: str, case: str = "", **values: object) -> str:
    """The remedy of a code of the catalogue, `case` being one of its cases, with `values` in its placeholders."""
    failure = CATALOGUE[code]
    return (failure.cases[case] if case else failure.remedy).format(**values)


class NodeError(Exception):
    """A refusal or failure that a person can act on.

    `code` is a key of the catalogue; `message` is one sentence (what happened, where, the value seen). The remedy comes from the
    catalogue: that of the code, or of one of its cases, filled with `values`. A `remedy` is passed only by a caller that got it
    from somewhere else: from another error, from a rung of the ladder, or from a table of diagnoses. `details` holds further
    measured values for the JSON result and never holds a secret. Both sentences may quote a node, a guest or a site, and are
    shown as they are: what could act on a terminal or on CI is made harmless here.
    """

    def __init__(
        self,
        code: str,
        message: str,
        case: str = "",
        *,
        remedy: str | None = None,
        details: Mapping[str, object] | None = None,
        **values: object,
    ) -> None:
        if code not in CATALOGUE:
            raise KeyError(f"{code} is not in the catalogue of error codes")
        self.code, self.case = code, case
        self.message = harmless(message)
        self.remedy = harmless(remedy_for(code, case, **values) if remedy is None else remedy)
        super().__init__(self.message)
        self.details = dict(details or {})

    def as_dict(self) -> dict[str, object]:
        """The `error` object of a result document."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy, **self.details}

    def sentence(self) -> str:
        """What a person reads: the message, then the remedy."""
        return harmless(f"{self.message.rstrip('.')}. {self.remedy.rstrip('.')}. [{self.code}]")


def of_system(error: OSError) -> NodeError:
    """What no part of the program foresaw that the system would refuse, for the outermost handler of a program."""
    cause = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error) or type(error).__name__
    return NodeError("system-refused", f"The system refuses: {cause}")
