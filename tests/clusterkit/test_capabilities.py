"""The template's capabilities are enough for its sandbox beside what each container runtime gives by itself.

What would be lost if this failed: on nodes with CRI-O, as on OpenShift, no proof of a nested sandbox would ever pass.
"""

import os
import shutil
import subprocess
from typing import Any

import pytest

from clusterkit import pod
from nodekit.rules.proof.ladder import judge
from nodekit.scripts import ladder_script, script
from tests.nodekit.test_ladder_script import MASK

NONCE = "0123456789abcdef"
CRI_O = "chown dac_override fsetid fowner setgid setuid setpcap net_bind_service kill"
"""What CRI-O gives to every container (crio.conf(5), default_capabilities)."""
CONTAINERD = f"{CRI_O} mknod net_raw setfcap sys_chroot audit_write"
"""What containerd and Docker do (containerd, `pkg/oci/spec.go`, defaultUnixCaps)."""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("bwrap"), reason="needs root and bubblewrap")
@pytest.mark.parametrize("of_runtime", [CRI_O, CONTAINERD], ids=["CRI-O", "containerd"])
def test_a_sandbox_nests_in_the_templates_container_under_every_runtime(of_runtime: str) -> None:
    template: Any = pod.template("image", "kata-qemu", {}, entry=script("entry.sh"))
    (container,) = template["spec"]["containers"]
    added = container["securityContext"]["capabilities"]["add"]
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in dict.fromkeys([*of_runtime.split(), *added]))])
    command = [*container["command"], "/bin/sh", "-c", ladder_script()]
    inside = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", *command]
    run = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{MASK}; exec "$@"', "sh", *inside],
        env={"PATH": os.environ["PATH"], "KATA_NODES_NONCE": NONCE},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    verdict = judge(run.stdout, NONCE, "node", [], place="pod")
    assert verdict.passed, verdict.message
