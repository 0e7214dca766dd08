"""Before a release: can its plan decide, and what would happen?"""
