"""The node program alone, by plain `ssh`: what `pulumi up` costs beyond the work on the hosts."""

import base64
import hashlib
import json
from typing import Any

from bench.fleet.contenders import CHANGE, CHECK, CONVERGE, Command, parameter
from bench.fleet.contenders.ssh import Ssh
from bench.fleet.hosts import Host
from components.nodes import node_states
from delivery import bundle
from nodekit.rules.node_state import CompareState
from nodekit.scripts import script

FOLDER = "/usr/local/lib/kata-nodes"
UPLOADED = ".kata-nodes.pyz"
TIMEOUT_SECONDS = 300


class Alone(Ssh):
    """Its verbs in the order and with the states of a stack; only the first converge carries the program."""

    def commands(self, job: str) -> dict[str, Command]:
        program = bundle.content()
        digest = hashlib.sha256(program).hexdigest()
        lines = {CONVERGE: _install(program, digest), CHECK: "", CHANGE: ""}[job]
        verbs = {CONVERGE: ("preflight", "docker", "kata", "prove"), CHECK: ("compare",), CHANGE: ("kata", "prove")}[job]
        start = f". {FOLDER}/run.sh\n"
        inputs = {}
        for host in self.hosts:
            states = self._states(host, digest)
            calls = [f"nodekit {digest[:12]} {verb} <<'STATE'\n{json.dumps(states[verb])}\nSTATE\n" for verb in verbs]
            inputs[host.name] = f"set -eu\n{lines}{start}{''.join(calls)}"
        return {"node program alone": self.everywhere("sh -s", inputs)}

    def _states(self, host: Host, digest: str) -> dict[str, dict[str, Any]]:
        served = self.fleet.site
        kata = {
            "archive": {"address": f"{self.fleet.address}/{served.archive}", "sha256": served.sha256},
            "kernel_params": [parameter(self.limit)],
        }
        docker = {"repository": {"address": f"{self.fleet.address}/debian", "fingerprint": served.fingerprint}}
        preflight = node_states.preflight_state(host.name, kata)
        docker_state, kata_state = node_states.docker_state(host.name, kata, docker), node_states.kata_state(host.name, kata)
        verified: list[object] = [docker_state.document(), kata_state.document(), {"program": digest, "machine": host.name}]
        proof = node_states.prove_state(host.name, kata, None, TIMEOUT_SECONDS, verified)
        compared = CompareState(node=host.name, program=digest, preflight=preflight, docker=docker_state, kata=kata_state)
        documents = {"preflight": preflight, "docker": docker_state, "kata": kata_state, "prove": proof, "compare": compared}
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


def _install(program: bytes, digest: str) -> str:
    """Lines of shell that put the program in place as a stack does."""
    encoded = base64.b64encode(program).decode()
    target = f"{FOLDER}/nodekit-{digest[:12]}.pyz"
    place = " ".join(map(str, bundle.part(program, bundle.BOOTSTRAP)))
    return (
        f"base64 -d >{UPLOADED} <<'PROGRAM'\n{encoded}\nPROGRAM\n"
        f"sh -s -- {place} {UPLOADED} {target} {digest} <<'UNPACK'\n{script('unpack.sh', 'delivery')}\nUNPACK\n"
    )
