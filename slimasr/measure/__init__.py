"""What a subnet costs and how well it does: time, memory, WER and loss, measured."""
