"""Which mathematics stands behind the verdicts?"""
