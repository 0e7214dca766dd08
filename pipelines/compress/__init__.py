"""Which smaller or faster variants of a model are worth trying?"""
