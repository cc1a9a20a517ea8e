"""The handler and the proof under other releases than test_kubelet.py's: containerd 1.7, which people still have, and the newest
kubelet.

Lost if this fails: a handler that is written where that containerd does not read it, or a proof that passes on one release alone.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterkit.pod_verdict import Refusal
from tests.clusterkit.kubelet import Kubelet
from tests.clusterkit.test_kubelet import CLASS, OTHERS, WRONG, cluster, refused, template

pytestmark = [
    pytest.mark.debian,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and a kubelet need root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="a guest with a network needs /dev/net/tun"),
]


@pytest.fixture(scope="module", params=OTHERS, ids=str)
def kubelet(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Kubelet]:
    """With no broken handler but the one that leads to runc."""
    with cluster(tmp_path_factory.mktemp("kubelet"), request.param, {}) as joined:
        yield joined


def test_the_registered_handler_starts_guests_whatever_runs_the_node(kubelet: Kubelet) -> None:
    assert kubelet.registered["handler"]["changed"] is True
    evidence, _ = kubelet.proven("good", template())
    assert not isinstance(evidence, Refusal), evidence
    assert evidence["guestBootId"] != kubelet.status()["nodeInfo"]["bootID"]
    assert refused(kubelet.proven("wrong", template(WRONG))[0]).code == "proof-not-a-guest"
    assert CLASS in kubelet.reported() or kubelet.releases.containerd == "1.7"
