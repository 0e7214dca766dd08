"""What do all signals together say of a canary, look after look?"""
