"""Benefit return: what the credits of a pool were sold for goes to those who contributed to it.

Words. *Round*: so many fen of one pool, shared among its contributions at once. *Share*: the grams of one contribution
that were issued to the pool. *Part*: what of a round one share gives. *Payment*: a part as it was paid, in fen or in
points. *Carry*: hundredths of a point that a citizen's payments in points have left, kept for the next.
"""
