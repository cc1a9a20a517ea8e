"""Programs of this checkout as resources: machines, packages and API server of stack `local`."""
