"""The demo: a real model released under real traffic, then two bad ones. Real data, and no branch for it elsewhere."""
