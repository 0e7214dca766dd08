"""What was asked for? A `release.yaml`, section by section."""
