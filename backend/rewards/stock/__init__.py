"""Pots of units that many draw on at once, without a hot transaction: reserve, use, return."""
