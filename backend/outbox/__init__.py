"""Work that must follow a commit: written in the same transaction as its cause, done after it, at least once.

*Item*: one piece of such work (a topic and a small payload). *Relay*: hands items to the handler of their topic and
removes them. Handlers must bear repetition.
"""
