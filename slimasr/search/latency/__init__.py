"""Latency on a device: an additive model, fitted to a profile of the device, which predicts every subnet."""
