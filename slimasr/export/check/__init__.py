"""Acceptance of a bundle: every size in an unmodified sherpa-onnx, beside the search in torch."""
