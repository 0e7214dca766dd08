"""When and where does it run? Prefect flows, the command line, the wiring and the environment."""
