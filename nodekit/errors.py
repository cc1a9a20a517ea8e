"""The one error type of this project, and the catalogue of its stable codes."""

CODES: dict[str, str] = {
    # input
    "bad-input": "The desired state that the program was given is not valid.",
    "bad-kernel-parameter": "A kernel parameter cannot be written into a guest's command line.",
    "kernel-parameters-too-long": "The guest's command line would be longer than an x86 kernel can read (2047 bytes).",
    "hypervisor-cannot-nest": "The chosen hypervisor is refused because a nested sandbox is wanted.",
    "docker-kata-incompatible": "The pair of Docker and Kata is known to break.",
    # node
    "not-root": "The node program needs root and does not have it.",
    "unsupported-os": "The node runs an operating system that this program does not know.",
    "node-busy": "Another run of the node program holds the node's lock.",
    "command-failed": "A program on the node ended with an error.",
    "command-timeout": "A program on the node did not end in the time it was given.",
    "tool-missing": "A program that is needed on the node is not installed.",
    "file-unreadable": "A file cannot be read.",
    "file-unwritable": "A file cannot be written; the file is as it was.",
    "file-invalid": "A file does not hold what it should; nothing was changed.",
    "journal-invalid": "The record of what this program changed cannot be read.",
}
"""Code -> its cause in one sentence. A code never changes its meaning."""


class NodeError(Exception):
    """A refusal or failure that a person can act on.

    `code` is a key of `CODES`; `message` is one sentence (what happened, where, the value seen); `remedy` is one sentence
    saying what to do. `details` holds further measured values for the JSON result and never holds a secret.
    """

    def __init__(self, code: str, message: str, remedy: str, **details: object) -> None:
        if code not in CODES:
            raise KeyError(f"{code} is not in the catalogue of error codes")
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.details = details

    def as_dict(self) -> dict[str, object]:
        """The `error` object of a result document."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy, **self.details}

    def sentence(self) -> str:
        """What a person reads: the message, then the remedy."""
        return f"{self.message.rstrip('.')}. {self.remedy.rstrip('.')}. [{self.code}]"
