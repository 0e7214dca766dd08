"""How good is a model on rows whose answers are known?"""
