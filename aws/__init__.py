"""What is true of Amazon's cloud without Pulumi: rules, and the preflight that asks an account."""
