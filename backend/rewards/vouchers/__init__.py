"""Vouchers: redeeming an offer, the code, capture at the counter, cancellation, expiry, refund, dispute."""
