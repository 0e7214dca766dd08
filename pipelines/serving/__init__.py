"""The data plane: servers and gateways. Needs no Prefect and no MLflow."""
