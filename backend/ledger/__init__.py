"""The book: who owns which amount of which asset, and every movement that made it so.

Words. *Owner*: who may hold amounts (``citizen:<id>``, ``enterprise:<id>``, ``merchant:<id>``, ``programme``).
*Account*: one owner, one asset (``citizen:<id>:points``); the programme's accounts are named by purpose
(``programme:issuance``). *Guarded* account: never below zero; citizens' and enterprises' are. *Posting*: a positive
amount of one asset from one account to another. *Transaction*: postings that happen together or not at all, under a key
that can take effect once. *Line*: what a transaction did to one guarded account, with the balance after it.
*Statement*: the lines of an account, newest first. *Sheet*: what one MongoDB transaction writes into the book.
*Settlement*: a merchant hands back a period's points and is owed fen for them; a *payout* pays these.
"""
