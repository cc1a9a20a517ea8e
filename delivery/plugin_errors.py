"""What the official command plugin's words about a connection that failed leave out: whose fault it is, and what to do.

Our stand-in for that plugin says it itself. The words were seen from pulumi-command 1.2.1. They begin its message; what a node
printed stands behind them, and cannot be taken for them.
"""

import re

from nodekit.errors import NodeError

_DIALED = r"(?:proxy: )?after \d+ failed attempts: "
_HANDSHAKE = _DIALED + r"ssh: handshake failed: "
_VERSION = r"error receiving version packet from server: "
_WORDS: list[tuple[str, str, str, str]] = [
    (r"wait: remote command exited without", "connection-ended", "", "the connection ended while a command ran there"),
    (_DIALED + r"dial tcp: lookup ", "host-unreachable", "name", "the name of its host, or of its bastion, is not found"),
    (_DIALED + r"ssh: rejected: ", "host-unreachable", "bastion", "its bastion reaches no SSH server at its address"),
    (_DIALED + r"dial tcp .*: connection refused$", "host-unreachable", "refused", "nothing answers at the port of its host"),
    (_DIALED + r"dial tcp ", "host-unreachable", "", "its host, or its bastion, does not answer"),
    (_HANDSHAKE + r"ssh: host key mismatch", "host-key-differs", "", "its host, or its bastion, has not the key that is pinned"),
    (_HANDSHAKE + r"ssh: no common algorithm for host key", "host-key-differs", "kind", "its host has no key of the pinned kind"),
    (_HANDSHAKE + r"ssh: no common algorithm", "host-unreachable", "algorithm", "its host shares no algorithm with the plugin"),
    (_HANDSHAKE + r"ssh: unable to authenticate", "login-refused", "", "its host, or its bastion, does not let the user in"),
    (_HANDSHAKE + r"agent: ", "agent-unreachable", "refused", "the SSH agent that SSH_AUTH_SOCK names lists or signs nothing"),
    (_HANDSHAKE, "host-unreachable", "closed", "its host, or its bastion, closed the connection before the login"),
    (r"(?:proxy: )?dial unix ", "agent-unreachable", "", "the SSH agent that SSH_AUTH_SOCK names does not answer"),
    (r"failed to create remote file .*: permission denied$", "upload-refused", "", "the login user may not write into its home"),
    (r"ssh: subsystem request failed$", "upload-refused", "sftp", "its sshd offers no SFTP, by which the program is copied"),
    (_VERSION + r"server unexpectedly closed", "upload-refused", "sftp", "its SFTP server ends before it answers"),
    (_VERSION + r"packet too (?:long|short)$", "upload-refused", "shell", "something prints where its SFTP server should answer"),
    (r"failed to (?:create|copy) .*SSH_FX_FAILURE", "upload-refused", "failure", "the node could not take the upload"),
]
"""How a message begins, the code and its case, and what has happened. The first that fits counts."""


def explained(message: str, node: str) -> NodeError | None:
    """What a `message` of the plugin about the `node` means; None for one that says it itself, such as a verb's own error."""
    first = message.partition("\n")[0]
    for words, code, case, happened in _WORDS:
        if re.match(words, first):
            return NodeError(code, f"Node {node}: {happened}", case)
    return None
