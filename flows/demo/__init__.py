"""The demos: a real model released under real traffic, then two bad ones. No branch for them elsewhere."""
