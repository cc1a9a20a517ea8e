"""The stack files, and the model that they are checked against."""
