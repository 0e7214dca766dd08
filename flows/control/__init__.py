"""Who works on a release: the lock, the looks, Prefect, the queue."""
