"""What can fail on the way to a node: the log-in, its host key, and becoming root."""

from nodekit.failures import Failure

CATALOGUE: dict[str, Failure] = {
    "host-address-invalid": Failure(
        "The address of a node or of a bastion has a port or brackets, is a list or pattern, or is nothing that could be dialed.",
        "Write a host name or an IP address alone, an IPv6 address without brackets, and the port as its own setting",
        {
            "none": "Give the address by which the machine is reached: one without a public address has only its private one",
        },
    ),
    "host-key-invalid": Failure(
        "The text set as a host key is not an ed25519 or ECDSA public key.",
        "Use the content of /etc/ssh/ssh_host_ed25519_key.pub on the host, or of ssh_host_ecdsa_key.pub where it is in FIPS "
        "mode, read there and not over the network",
        {
            "rsa": "Use the content of /etc/ssh/ssh_host_ecdsa_key.pub on the host: of an RSA key the official command plugin "
            "takes only signatures by SHA-1, which OpenSSH refuses",
            "private": "Use the content of the file with the same name and .pub: nobody but the host needs the private half",
        },
    ),
    "host-key-missing": Failure(
        "A connection over SSH pins no host key, so it would trust any host that answers.",
        "Set hostKey of the connection, and of its proxy, to the content of the host's /etc/ssh/ssh_host_ed25519_key.pub",
    ),
    "login-key-unusable": Failure(
        "What is set as the private key of a login is another thing, or has a passphrase, which nobody could type.",
        "Keep the key in an SSH agent (ssh-add) and remove the secret, or set a key without a passphrase",
        {
            "public": "Set the private half: the content of the file whose name has no .pub",
            "path": "Set the content of that file: pulumi config set --secret KEY < FILE",
            "putty": "Set it in OpenSSH's form: puttygen KEY.ppk -O private-openssh -o FILE",
        },
    ),
    "connection-ended": Failure(
        "A connection to a node ended before the command that ran there.",
        "Look whether the machine runs and is reached, then run `pulumi up` again: it continues, and the node first ends or "
        "undoes what was half done",
    ),
    "host-unreachable": Failure(
        "No SSH server answers where a node, or its bastion, is dialed.",
        "Check that the machine is up, that its address and port are right, and that firewalls let this machine in",
        {
            "name": "Correct its address, or the DNS of this machine",
            "bastion": "Check the node's address and port as the bastion sees them, and that the bastion may forward connections",
            "refused": "Start sshd on it, or set the port on which it listens",
            "algorithm": "Allow one of those that the plugin's message says it offered in the host's sshd_config (KexAlgorithms, "
            "Ciphers, MACs), and restart sshd",
            "closed": "Run `pulumi up` again: a machine that is still starting closes connections, and so does an sshd that has "
            "too many at once (MaxStartups). If it stays so, its log says why (journalctl -u ssh)",
        },
    ),
    "host-key-differs": Failure(
        "The key that a host shows is not the pinned one: the host was reinstalled, or another machine answers at its address.",
        "Read /etc/ssh/ssh_host_ed25519_key.pub on the machine, not over the network. Set it as hostKey if the machine was "
        "reinstalled; otherwise find out which machine answers there",
        {
            "kind": "Set hostKey to the content of a file that the machine has in /etc/ssh: ssh_host_ed25519_key.pub or "
            "ssh_host_ecdsa_key.pub",
        },
    ),
    "login-refused": Failure(
        "A host does not let the login user in.",
        "Put the public half of the private key into ~/.ssh/authorized_keys of that user there, or correct user and key",
    ),
    "agent-unreachable": Failure(
        "The official command plugin asks the SSH agent that SSH_AUTH_SOCK names, also where a private key is set.",
        "Run `unset SSH_AUTH_SOCK`, or start the agent (ssh-agent), then run `pulumi up` again",
        {
            "refused": "Unlock the agent or its key, and allow what it asks you for, then run `pulumi up` again. Where "
            "the stack has a private key, `unset SSH_AUTH_SOCK` leaves the agent out",
        },
    ),
    "upload-refused": Failure(
        "The node program could not be copied into the home of the login user.",
        "Let the user write into its home there, or log in as another one",
        {
            "sftp": "Put `Subsystem sftp internal-sftp` into its sshd_config, and restart sshd",
            "shell": "Let ~/.bashrc, or what else the login user's shell reads as it starts, print nothing where there is no "
            "terminal. Or put `Subsystem sftp internal-sftp`, which starts no shell, into its sshd_config, and restart sshd",
            "failure": "Free space on it, or make its file system writable: SFTP has no better word for either",
        },
    ),
    "node-doubled": Failure(
        "Two nodes have the same name, or the same address and port.",
        "Choose a name for each node that no other node has",
        {
            "address": "Remove one of them, or set a different port for each",
        },
    ),
    "no-sudo": Failure(
        "The login user is not root and cannot become root without a password.",
        "Log in as root, or install sudo",
        {
            "password": "Allow it (NOPASSWD) for this user, set the secret sudoPassword, or log in as root",
        },
    ),
    "sudo-password-wrong": Failure(
        "sudo on the node does not accept the login user's password.",
        "Set the right one: pulumi config set --secret kata-nodes:sudoPassword, then pulumi up, without which a destroy takes "
        "the one before",
    ),
    "sudo-needs-terminal": Failure(
        "sudo on the node refuses to work without a terminal.",
        "Put 'Defaults:{user} !requiretty' into /etc/sudoers.d, or log in as root",
    ),
    "sudo-not-allowed": Failure(
        "sudo on the node does not let the login user become root.",
        "Allow it in /etc/sudoers.d, or log in as root",
        {
            "broken": "Repair sudo on the node, or log in as root",
        },
    ),
}
CASES = {
    "bad-input": {
        "sudo-password": "Set it as one line: pulumi config set --secret kata-nodes:sudoPassword",
        "password": "Write it on the first line of the standard input",
    },
    "file-unwritable": {
        "cache": "Set XDG_CACHE_HOME to a folder that this user may write and that has 2 MiB, then run again",
    },
}
"""Further remedies of failures that nodes have as well."""
