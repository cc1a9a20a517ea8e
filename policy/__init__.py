"""The policy pack; README.md says what it refuses and how it is run."""
