"""Corpora to lhotse manifests, features, tokens and batches."""
