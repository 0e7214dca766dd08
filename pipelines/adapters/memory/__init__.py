"""Every port in memory: for tests, simulations, and as the shortest examples."""
