"""Offers: what merchants hand over for points, its texts and picture, its conditions, its life, and finding it."""
