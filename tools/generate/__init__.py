"""Writes what is derived from the code and lies in the checkout for readers: the schema of stack files and the references."""
