"""What serves between releases, and who looks after it?"""
