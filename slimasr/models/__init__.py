"""Models: an encoder and named heads."""
