"""What people and CI jobs get to see."""
