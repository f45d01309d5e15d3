"""Search graphs for words: lexicons, n-gram models, and their composition."""
