"""What is true on the nodes of a stack now, and how to repair it: the command `kata-nodes`, which wraps `pulumi`."""
