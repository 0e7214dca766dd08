"""What in a model folder is refused, by name?"""
