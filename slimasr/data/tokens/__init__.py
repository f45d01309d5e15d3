"""Stage 3: tokenizers of subwords, characters and phonemes."""
