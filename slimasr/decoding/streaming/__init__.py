"""Recognition of speech while it arrives."""
