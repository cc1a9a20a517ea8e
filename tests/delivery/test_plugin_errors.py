"""What the official command plugin says of a connection is explained, and what a node prints is never taken for it.

Lost if these fail: a person reads `remote command exited without exit status` and does not know whether the node is half changed;
or a node makes the stack say what its owner wants.
"""

import pytest

from delivery.plugin_errors import explained

# Printed by pulumi-command 1.2.1 against a real server, or where none was; of the timeout, of SFTP that does not come about,
# of an agent and of a key exchange, the words are those of Go and its libraries (golang.org/x/crypto/ssh, github.com/pkg/sftp).
SEEN = {
    'wait: remote command exited without exit status or exit signal: running "cut":\n': "connection-ended",
    "after 0 failed attempts: dial tcp 127.0.0.1:41837: connect: connection refused": "host-unreachable refused",
    "proxy: after 0 failed attempts: dial tcp 127.0.0.1:41837: connect: connection refused": "host-unreachable refused",
    "after 60 failed attempts: dial tcp 203.0.113.9:22: i/o timeout": "host-unreachable",
    "after 0 failed attempts: dial tcp: lookup no.such.invalid on 192.0.2.53:53: no such host": "host-unreachable name",
    "proxy: after 0 failed attempts: ssh: rejected: connect failed (Connection refused)": "host-unreachable bastion",
    "after 0 failed attempts: ssh: handshake failed: EOF": "host-unreachable closed",
    "after 0 failed attempts: ssh: handshake failed: ssh: host key mismatch": "host-key-differs",
    "after 0 failed attempts: ssh: handshake failed: ssh: no common algorithm for host key; we offered: [ecdsa-sha2-nistp256], "
    "peer offered: [ssh-ed25519]": "host-key-differs kind",
    "after 0 failed attempts: ssh: handshake failed: ssh: no common algorithm for key exchange; we offered: [curve25519-sha256], "
    "peer offered: [diffie-hellman-group1-sha1]": "host-unreachable algorithm",
    "after 0 failed attempts: ssh: handshake failed: agent: failed to sign challenge": "agent-unreachable refused",
    "after 0 failed attempts: ssh: handshake failed: agent: client error: EOF": "agent-unreachable refused",
    "ssh: subsystem request failed": "upload-refused sftp",
    "error receiving version packet from server: server unexpectedly closed connection: unexpected EOF": "upload-refused sftp",
    "error receiving version packet from server: packet too long": "upload-refused shell",
    "proxy: after 0 failed attempts: ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey], "
    "no supported methods remain": "login-refused",
    "dial unix /tmp/no/such/agent: connect: no such file or directory": "agent-unreachable",
    "failed to create remote file .kata-nodes.pyz: permission denied": "upload-refused",
    'failed to create remote file .kata-nodes.pyz: sftp: "Failure" (SSH_FX_FAILURE)': "upload-refused failure",
}  # fmt: skip
OWN = (
    'Process exited with status 1: running "sudo -n sh":\nerror: Node n1: ... [kata-archive-invalid]\n',
    'Process exited with status 1: running "sh":\nwait: remote command exited without exit status or exit signal\n',
    'Process exited with status 137 from signal KILL: running "sh":\nafter 0 failed attempts: ssh: handshake failed: EOF',
    "the connection to admin@192.0.2.4 ended while the command ran: the machine hangs or is cut off",
    "",
)


@pytest.mark.parametrize(("message", "failure"), SEEN.items(), ids=SEEN.values())
def test_each_of_its_words_has_a_cause_and_a_remedy(message: str, failure: str) -> None:
    error = explained(message, "n1")
    assert error is not None and " ".join(filter(None, (error.code, error.case))) == failure
    assert error.message.startswith("Node n1: ") and error.remedy


@pytest.mark.parametrize("message", OWN)
def test_what_a_command_printed_is_not_explained(message: str) -> None:
    assert explained(message, "n1") is None
