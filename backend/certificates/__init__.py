"""Certificates for everybody: the register and a page for each, which work without scripts; PDF, PNG and receipt.

Shows what ``Retirement`` and ``Sealing`` say; decides nothing. A certificate is public by its number.
"""
