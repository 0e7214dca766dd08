"""What happens with users: one look after the other, until the release ends."""
