"""The path from a registered version to its first user, as README draws it."""
