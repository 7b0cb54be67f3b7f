"""Neutrality: what an event emits, by sourced factors, and the way to buy and retire as much."""
