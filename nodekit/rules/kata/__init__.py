"""Rules of Kata Containers: its releases, files, parameters, and what it starts."""
