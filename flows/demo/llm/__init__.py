"""The demo of language models: a small one learns to write dates, times, durations and amounts as ISO does."""
