"""The stack files, and the model that they are checked against."""

from nodekit import errors
from stacks import failures

errors.add(failures.CATALOGUE)
