"""Units as processes of this machine: wanted, supervised, adopted."""
