"""Alignment: when each token of a reference is spoken."""
