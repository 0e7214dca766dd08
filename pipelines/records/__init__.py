"""What is written down, and how does it read?"""
