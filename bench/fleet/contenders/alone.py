"""The node program alone, by plain `ssh`: what `pulumi up` costs beyond the work on the hosts."""

import base64
import hashlib
import json
from typing import Any

from bench.fleet.contenders import CHANGE, CHECK, Command, parameter
from bench.fleet.contenders.ssh import Ssh
from bench.fleet.hosts import Host
from components.nodes import node_states
from delivery import bundle, scripts
from nodekit.rules.node_state import CompareState, ConvergeState, preflight

FOLDER = "/usr/local/lib/kata-nodes"
UPLOADED = ".kata-nodes.pyz"
TIMEOUT_SECONDS = 300


class Alone(Ssh):
    """Its verbs in the order and with the states of a stack; only the first converge carries the program."""

    def commands(self, job: str) -> dict[str, Command]:
        program = bundle.content()
        digest = hashlib.sha256(program).hexdigest()
        inputs = {}
        for host in self.hosts:
            states = {verb: json.dumps(state) for verb, state in self._states(host, digest).items()}
            if job == CHECK:
                calls = f". {FOLDER}/run.sh\nnodekit {digest[:12]} compare <<'STATE'\n{states['compare']}\nSTATE\n"
            else:
                proof = f". {FOLDER}/run.sh\nnodekit {digest[:12]} prove <<'STATE'\n{states['prove']}\nSTATE\n"
                calls = _converge(program, digest, host.name, states["converge"], again=job == CHANGE) + proof
            inputs[host.name] = f"set -eu\n{calls}"
        return {"node program alone": self.everywhere("sh -s", inputs)}

    def _states(self, host: Host, digest: str) -> dict[str, dict[str, Any]]:
        served = self.fleet.site
        kata = {
            "archive": {"address": f"{self.fleet.address}/{served.archive}", "sha256": served.sha256},
            "kernel_params": [parameter(self.limit)],
        }
        docker = {"repository": {"address": f"{self.fleet.address}/debian", "fingerprint": served.fingerprint}}
        docker_state, kata_state = node_states.docker_state(host.name, kata, docker), node_states.kata_state(host.name, kata)
        verified: list[object] = [docker_state.document(), kata_state.document(), {"program": digest, "machine": host.name}]
        proof = node_states.prove_state(host.name, kata, None, TIMEOUT_SECONDS, verified)
        compared = CompareState(
            node=host.name, program=digest, preflight=preflight(kata_state), docker=docker_state, kata=kata_state
        )
        bounds = {f"{step}_seconds": seconds for step, seconds in node_states.STEP_SECONDS.items()}
        converged = ConvergeState(node=host.name, program=digest, docker=docker_state, kata=kata_state, **bounds)
        documents = {"converge": converged, "prove": proof, "compare": compared}
        return {verb: state.document() for verb, state in documents.items()}

    def fault(self, job: str, printed: str) -> str:
        for host in self.hosts:
            text = (self.folder / f"{host.name}.out").read_text()
            results = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            if job == CHECK and [result.get("differences") for result in results] != [[]]:
                return f"{host.name} differs: {text}"
            if job == CHANGE and [result["changed"] for result in results] != [True, False]:
                return f"{host.name} was not changed: {text}"
        return ""


def _converge(program: bytes, digest: str, name: str, state: str, again: bool) -> str:
    """Lines of shell that put the program in place, where it is not, and take its steps, as a stack does."""
    target = f"{FOLDER}/nodekit-{digest[:12]}.pyz"
    place = " ".join(map(str, bundle.part(program, bundle.BOOTSTRAP)))
    sent = "" if again else f"base64 -d >{UPLOADED} <<'PROGRAM'\n{base64.b64encode(program).decode()}\nPROGRAM\n"
    script = f"$(cat <<'CONVERGE'\n{scripts.sent('converge.sh', 'delivery')}\nCONVERGE\n)"
    arguments = f"{place} {TIMEOUT_SECONDS} {UPLOADED} {target} {digest} bench/alone {name}{' again' if again else ''}"
    return f"{sent}sh -c \"{script}\" converge {arguments} <<'STATE'\n{state}\nSTATE\n"
