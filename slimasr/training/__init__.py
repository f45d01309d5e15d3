"""The trainer turns batches and a method's plan into weights, checkpoints and logs. It knows no method by name."""
