"""MLflow: its registry, its assessments, its errors."""
