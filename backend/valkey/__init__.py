"""Valkey: how it is reached, and run where there is none. Must hold no only copy: all is rebuilt from MongoDB."""
