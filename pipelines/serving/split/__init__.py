"""Who holds the split, under a lease, through a restart?"""
