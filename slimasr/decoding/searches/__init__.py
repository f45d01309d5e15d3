"""Searches: from encoder output to labels and words."""
