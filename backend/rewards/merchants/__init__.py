"""Merchants: registration, approval, contracts, shops, the people who work there and what each may do."""
