"""The failure reference: every code of the catalogue with its cause and its remedies."""

from collections.abc import Iterator

from nodekit.failures import Failure
from nodekit.rules.proof import console, ladder
from review.catalogue import KNOWN, ROOMS

HEAD = """# Failures

Every failure ends with a code in brackets, as in `[proof-user-namespaces-zero]`; the verbs on a node report it as `error.code`.
For each code, this page says what it means and lists the remedies that the program names; `<name>` stands for a value of the
run. A URN is in what `pulumi stack --stack NAME --show-urns` prints. `make generate` writes the page from the catalogues,
`failures.py` of each room. A code never changes its meaning.
"""
SYMPTOMS = (
    "No space left on device",
    "Permission denied",
    "mount proc: Operation not permitted",
    "uid_map: Operation not permitted",
    "bwrap: uid_map: Operation not permitted",
    "not implemented",
    "",
)
"""Words by which the ladder's judge distinguishes the causes of a command's failure."""


def rungs() -> Iterator[tuple[str, str]]:
    """Code and remedy of each command of the ladder that fails, as the judge itself reports them."""
    for command in ladder.COMMANDS:
        for symptom in SYMPTOMS if command.code else ():
            detail = symptom.replace(" ", "%20")
            transcript = f"rung=uid status=ok value=0 detail=\nn rung={command.name} status=fail value=1 detail={detail}"
            for sandbox in command.sandboxes:
                verdict = ladder.judge(f"n {transcript}\nn end", "n", "", [], sandbox=sandbox)
                if verdict.code and verdict.code != "proof-transcript-incomplete":
                    yield verdict.code, verdict.remedy


def diagnoses() -> Iterator[tuple[str, str]]:
    """Code and remedy of each fault that a guest's console, QEMU, Kata or Docker shows, and of each rung of the ladder."""
    for _, _, remedy in (*console.QEMU, *console.CONSOLE):
        yield "preflight-guest-not-up", remedy
        yield "proof-guest-not-up", remedy
    for _, _, remedy in (*console.KATA, *console.DOCKER):
        yield "proof-container-failed", remedy
        if "image" not in remedy:  # those of an image's source: an overhead is measured in one that the program has made
            yield "overhead-not-measured", remedy
    yield from rungs()


def remedies(code: str, failure: Failure) -> list[str]:
    """Every remedy of a code, each once."""
    of_its_room = next(catalogue[code].cases for catalogue in ROOMS.values() if code in catalogue)
    cases = [*of_its_room, *sorted(failure.cases.keys() - of_its_room.keys())]
    diagnosed = [remedy for of, remedy in diagnoses() if of == code]
    remedies = (failure.remedy, *(failure.cases[case] for case in cases), *diagnosed)
    return list(dict.fromkeys(remedy.rstrip(".") for remedy in remedies if remedy))


def escaped(text: str) -> str:
    """For Markdown, which would take <name> for HTML."""
    return text.replace("{", "\\<").replace("}", ">")


def text() -> str:
    """Content of docs/reference/errors.md."""
    parts = [HEAD]
    for heading, catalogue in ROOMS.items():
        parts.append(f"## {heading}\n")
        for code in catalogue:
            lines = "\n".join(f"- {escaped(remedy)}." for remedy in remedies(code, KNOWN[code]))
            parts.append(f"### {code}\n\n{KNOWN[code].cause}\n\n{lines}\n")
    return "\n".join(parts)
