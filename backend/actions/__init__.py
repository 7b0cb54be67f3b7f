"""Low-carbon acts: recorded once, claimed once, settled once.

*Action*: one act of one citizen with kind, quantity (whole base units), time, evidence tier, source and the
source's own reference. *Intake*: validating, authorising and storing it as ``PENDING``. *Claim*: a fingerprint of the
physical act, unique across citizens and sources; who settles first owns it. *Settling*: converting a shard's
pending actions by the rules in force when they happened, and posting the result. *Feed*: a partner's file of acts.
"""
