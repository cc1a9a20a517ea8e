"""What is true of Amazon's cloud without Pulumi: rules, and the preflight that asks an account."""

from aws import failures
from nodekit import errors

errors.add(failures.CATALOGUE)
