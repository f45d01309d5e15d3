"""The package maps a batch and a subnet to losses: model and losses as one module, and what a teacher passes on."""
