"""What is in a model folder, and who vouches for it?"""
