"""What do we do about it? Decides (pure functions) and acts (adapters); never imports Prefect."""
