"""Makes what a local node starts from: disk, package repository, Kata archive."""
