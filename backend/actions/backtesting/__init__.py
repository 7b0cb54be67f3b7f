"""Back-tests: a draft, a profile or a published version replayed over past acts, beside what was posted for them.

A *trial* is what is tried; a *part* is what one of the 64 shards of citizens makes of it; a *tally* is a part's sums.
Nothing here changes an action, a rule or the book.
"""
