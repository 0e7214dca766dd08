"""The one long-lived process, and what keeps its home small and safe."""
