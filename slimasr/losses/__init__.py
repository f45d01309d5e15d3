"""Training losses: transducer (full lattice and pruned) and CTC; tensors in, one sum per utterance out."""
