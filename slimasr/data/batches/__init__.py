"""Batches of utterances, and which utterances get into them."""
