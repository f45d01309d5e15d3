"""Models for devices: weights as int8 stores them, ONNX files, and what a runtime makes of them."""
