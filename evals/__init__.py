"""Is it good? Measures and judges; knows no registry, no Prefect, no container and no network."""
