"""What `shipway init` writes: a commented release.yaml and a workflow."""
