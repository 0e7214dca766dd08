"""Docker: images and containers."""
