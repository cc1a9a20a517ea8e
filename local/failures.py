"""What can fail with the machines, the cluster and the package site of stack `local`."""

from nodekit.failures import Failure

CATALOGUE: dict[str, Failure] = {
    "genuine-impossible": Failure(
        "A local node should run the real Kata, and this machine lacks KVM or internet access.",
        "Use a machine that has both, or stack local, which emulates where it must and runs a stand-in for Kata",
    ),
    "local-image-missing": Failure(
        "The image of local nodes, or a file of it, is not where it should be.",
        "Make it: python3 -m tools.local",
    ),
    "local-part-failed": Failure(
        "Set-up could not make or download a part of the local stack.",
        "Correct what it names, then run again",
    ),
    "local-machine-not-up": Failure(
        "A local machine does not answer SSH in time, or its QEMU ended.",
        "Read the console's last words above; on a busy machine run again",
        {"ended": "Correct what it names, then run again"},
    ),
    "local-disk-failed": Failure(
        "The disk of a local machine could not be made.",
        "Check the image and the free space",
    ),
    "local-cluster-not-up": Failure(
        "The local API server is not ready in time, or one of its processes ended.",
        "Run again",
        {"ended": "Correct what it names, then run again"},
    ),
    "local-site-not-up": Failure(
        "The local package site did not start.",
        "Run again",
    ),
    "local-program-not-started": Failure(
        "A program of the local stack cannot be started.",
        "Install it",
    ),
    "local-process-not-ended": Failure(
        "A process of the local stack outlived SIGKILL.",
        "Look at its state in /proc",
    ),
    "local-no-port": Failure(
        "No TCP port of this machine's loopback is free.",
        "End programs that hold many ports",
    ),
    "local-folder-foreign": Failure(
        "A folder of the local stack holds files that it did not make, so nothing in it was removed.",
        "Use another folder",
    ),
}
CASES = {
    "bad-input": {"object": "Write the settings as one JSON object"},
    "tool-missing": {"this-machine": "Install {package} on this machine"},
}
"""Further remedies of failures that nodes have as well."""
