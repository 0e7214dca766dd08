"""Texts in; for each a label, and how sure the model is of every label."""
