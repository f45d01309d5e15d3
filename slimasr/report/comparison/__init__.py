"""Comparison of systems: pairs, differences of error rates, and how certain they are."""
