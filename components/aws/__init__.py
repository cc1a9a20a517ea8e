"""Pools of machines on AWS."""
