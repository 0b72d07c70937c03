"""Time and memory, side by side; other backbones in MMDetection's models."""
