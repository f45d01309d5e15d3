"""The trainer: from batches and a method's plan to weights, checkpoints and logs. It knows no method by name."""
