"""Models for devices: weights rounded to int8, ONNX files, and their WER in a device's runtime."""
