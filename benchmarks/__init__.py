"""Benchmarks: figures for docs/benchmarks.md, each with the command that measured it."""
