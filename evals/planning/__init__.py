"""What will it take to decide, and what would happen in a world that is known?"""
