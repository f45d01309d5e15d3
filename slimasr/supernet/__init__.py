"""Subnets, search spaces, costs: what a supernet can be cut down to and what that costs."""
