"""Tests of what is written for readers."""
