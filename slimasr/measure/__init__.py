"""Measurements of a subnet: time, memory, WER and loss."""
