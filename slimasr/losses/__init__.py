"""Training losses (transducer, CTC, distillation, frame targets), which map tensors to one sum per utterance.

Only `slimasr.losses.transducer` writes its shapes as k2 does: B utterances, S symbols, T frames, which are N, U and T
everywhere else."""
