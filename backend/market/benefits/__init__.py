"""Benefits: what a pool's credits were sold for returns to its contributors, as fen or as points."""
