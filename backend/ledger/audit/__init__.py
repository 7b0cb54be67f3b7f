"""The auditor: replays the book and its seals, and names every place where they do not say the same.

Words. *Finding*: a place (a document by its id) and what is wrong there. *Replay*: an owner's transactions applied
again in their sequence by the very rules that posted them; each stored document must be, byte by byte, what that gives.
*Form*: all documents that differ only in values of fixed size; one known is read without being decoded. *Following*:
auditing each new block once, some seconds after it was made.

The way: ``whole`` (the door) → ``replay`` (owner by owner) with ``earnings`` (the quick way for the one kind that
is most of a book), ``owing``, ``corrected``; then ``seals`` (blocks, days, what waits). What does not fit the quick way
takes the thorough one, so every finding is worded there.
"""
