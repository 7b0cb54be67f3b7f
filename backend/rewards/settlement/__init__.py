"""Settlement: a merchant's statement of a period out of the ledger, its approval, payment, correction and export."""
