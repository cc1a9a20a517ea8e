"""Makes the plugins importable for their tests; holds nothing else."""
