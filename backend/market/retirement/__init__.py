"""Retirement: credits leave for ever, for a beneficiary and purpose, and a certificate says so."""
