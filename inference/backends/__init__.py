"""Where a network runs (PyTorch, ONNX Runtime, OpenVINO), and what it is exported to."""
