"""The package that other programs use: its schema, its releases, and the examples that use it."""
