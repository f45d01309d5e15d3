"""Training sets whose records are all in memory: which utterances can be used, and the batches of every epoch."""
