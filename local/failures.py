"""What can fail with the machines, the cluster and the package site of stack `local`."""

from nodekit.failures import Failure

CATALOGUE: dict[str, Failure] = {
    "genuine-impossible": Failure(
        "A local node is to run the real Kata, and this machine lacks KVM or internet.",
        "Use a machine that has both, or stack local, which emulates where it must and runs a stand-in for Kata",
    ),
}
