"""The question `effective`: which configuration Kata reads here, its content, and which files look relevant but are ignored."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodekit.errors import NodeError
from nodekit.host import kata, kata_shims, kata_survey
from nodekit.rules import node_state
from nodekit.rules.kata import kata_config, kata_layout, kernel_params
from nodekit.rules.text import printable

if TYPE_CHECKING:
    import argparse


def arguments(parser: "argparse.ArgumentParser") -> None:
    """The options of this question."""
    parser.add_argument(
        "--runtime", choices=kata_layout.RUNTIMES, default=node_state.KATA_RUNTIME, help="Kata's runtime (default: %(default)s)"
    )
    parser.add_argument(
        "--hypervisor",
        choices=kata_layout.HYPERVISORS,
        default=node_state.HYPERVISOR,
        help="its table [hypervisor.NAME] (default: %(default)s)",
    )
    parser.add_argument(
        "--config-path", metavar="FILE", help="the ConfigPath that a launcher gives (default: what Docker's runtime kata has)"
    )


def run(root: Path, *, runtime: str, hypervisor: str, config_path: str | None) -> dict[str, object]:
    """The configuration in effect as one document; changes nothing.

    Raises NodeError as `kata.effective` and `kata_survey.survey` do.
    """
    from nodekit.host import kata_start  # `status`, which takes the summary, needs none of its rules

    configuration = kata.effective(root, runtime=runtime, hypervisor=hypervisor, config_path=config_path)
    return {
        **_summary(root, configuration, runtime, hypervisor),
        "runtime": runtime,
        "hypervisor": hypervisor,
        "version": configuration.version,
        "shim": configuration.shim,
        "resolvedFile": configuration.resolved_file,
        "parameters": [
            {"text": token, "inert": kernel_params.inert(token), "note": kernel_params.note(token)}
            for token in kernel_params.tokens(configuration.kernel_params)
        ],
        "kernelParamsFrom": configuration.sources.get(kata_config.KEY),
        "sources": configuration.sources,
        "refusals": [
            {"cause": refusal.cause, "remedy": refusal.remedy}
            for refusal in kata_start.refusals(root, configuration, hypervisor, runtime)
        ],
        "write": _write(root, configuration, hypervisor),
    }


def summary(root: Path, *, runtime: str, hypervisor: str) -> dict[str, object]:
    """What a person must know of it at least; raises as `run`."""
    configuration = kata.effective(root, runtime=runtime, hypervisor=hypervisor, config_path=None)
    return _summary(root, configuration, runtime, hypervisor)


def _summary(root: Path, configuration: kata.Effective, runtime: str, hypervisor: str) -> dict[str, object]:
    around = kata_survey.survey(root, configuration, runtime=runtime, hypervisor=hypervisor)
    return {
        "configFile": configuration.config_file,
        "chosenBy": configuration.chosen_by,
        "dropIns": list(configuration.drop_ins),
        "kernelParams": configuration.kernel_params,
        "launchers": [
            {
                "name": launcher.name,
                "file": launcher.file,
                "configPath": named[0] if (named := kata_shims.file_of(root, launcher)) else None,
            }
            for launcher in around.launchers
        ],
        "dead": [{"path": entry.path, "reason": entry.reason} for entry in around.dead],
        "notes": list(around.notes),
    }


def _write(root: Path, configuration: kata.Effective, hypervisor: str) -> dict[str, str | None]:
    """Where the verb `kata` would write, and how; no file where it would refuse, with its reason."""
    try:
        target = kata.written(root, configuration, hypervisor, configuration.version)
    except NodeError as error:
        return {"file": None, "strategy": None, "reason": error.sentence()}
    return {"file": target.file, "strategy": target.strategy, "reason": target.reason}


def text(document: dict[str, Any]) -> str:
    """The document as it is printed for people: aligned lines, then the ignored files and the notes."""
    write = document["write"]
    rows = [
        (
            "runtime",
            f"{document['runtime']}, hypervisor {document['hypervisor']}, Kata {document['version'] or 'of unknown version'}",
        ),
        ("shim", document["shim"] or "none found"),
        ("file", document["configFile"]),
        ("", f"because {document['chosenBy']}"),
    ]
    if document["resolvedFile"] != document["configFile"]:
        rows.append(("links to", document["resolvedFile"]))
    rows += _each("drop-ins", document["dropIns"])
    rows.append(("kernel_params", document["kernelParams"] or "(none)"))
    if document["kernelParamsFrom"]:
        rows.append(("", f"from {document['kernelParamsFrom']}"))
    for parameter in document["parameters"]:
        rows += [("", f"{parameter['text']}: {why}") for why in (parameter["inert"], parameter["note"]) if why]
    rows.append(("to change", f"{write['strategy']} {write['file']}" if write["file"] else "not possible"))
    rows.append(("", write["reason"]))
    rows += _each("launchers", [_launcher(launcher) for launcher in document["launchers"]])
    rows += _each("refused", [f"{refusal['cause']}. {refusal['remedy']}" for refusal in document["refusals"]])
    rows += _each("dead", [f"{entry['path']}: {entry['reason']}" for entry in document["dead"]])
    rows += _each("notes", document["notes"])
    return "".join(f"{printable(f'{name:<15}{value}')}\n" for name, value in rows)


def _each(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return [(name if at == 0 else "", value) for at, value in enumerate(values)]


def _launcher(launcher: dict[str, str | None]) -> str:
    return f"{launcher['name']} ({launcher['file']}): {launcher['configPath'] or 'no ConfigPath'}"
