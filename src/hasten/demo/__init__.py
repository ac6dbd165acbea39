"""The demo: EfficientNet-Lite0 with a head of its own, on real images of solar cells."""
