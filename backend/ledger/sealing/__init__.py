"""Sealing: what the book says today is what it will say for ever, and anybody can check it without us.

Words. *Leaf*: the hash of one transaction's canonical bytes. *Block*: the leaves of the transactions that waited, under
one Merkle root, chained to the block before and signed. *Day*: the blocks of one local date of the programme, published
together; *final* once a block of a later date exists. *Receipt*: a transaction, the proof that its leaf is in a block,
and that block's signed header. *Unsealable*: announced for sealing, but not in the book any more, or not readable.
The formats are written down in ``docs/receipts.md``.
"""
