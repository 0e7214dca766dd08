"""How is a row read as tokens, and what may come after them?"""
