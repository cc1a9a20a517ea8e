"""Speed of this program beside Ansible, pyinfra and plain ssh, on many real Debian hosts in namespaces: `make bench-fleet`."""
