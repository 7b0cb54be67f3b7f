"""Benchmarks: each starts its own stack on loopback, compares side by side in one run, and audits the books."""
