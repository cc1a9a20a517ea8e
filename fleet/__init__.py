"""What is true on the nodes of a stack now, and how it is put right: the command `kata-nodes`, which wraps `pulumi`."""
