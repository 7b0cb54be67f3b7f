"""Funds: money that enterprises and citizens pay in and take out, recorded by finance staff; enterprises themselves."""
