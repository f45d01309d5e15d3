"""From a batch and a subnet to losses: the model and its losses as one module, and what a teacher hands on."""
