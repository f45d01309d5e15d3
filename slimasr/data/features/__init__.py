"""Stage 2 and the features of audio that arrives in pieces."""
