"""Where weights may lie that a registered version only points at: one file a kind of place."""
