"""What a person orders, and how it is carried out at once."""
