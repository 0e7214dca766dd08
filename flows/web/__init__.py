"""The page and the API that people and dashboards use."""
