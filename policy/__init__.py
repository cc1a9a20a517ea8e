"""The policy pack; README.md says what it refuses and how it is run."""

from nodekit import errors
from policy import failures

errors.add(failures.CATALOGUE)
