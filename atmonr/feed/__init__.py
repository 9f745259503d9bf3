"""A scene's rays as tensors resident on the device, in an exact order."""
