"""The model server: one bundle, verified before it is loaded."""
