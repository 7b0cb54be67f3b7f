"""Pooling: citizens' grams, with their consent, become a batch, are verified, and issued as credits with serials.

Words, beyond those of the market. *Authorisation*: a citizen's consent to pooling, for some scenarios or all, in force
from one moment to another. *Pooled act*: a credited act whose grams lie in a batch. *Threshold*: grams of one citizen
and vintage that the programme pools (平台归集); a contribution's *pool share* lies below it, its *own share* above.
*Sample*: acts that a verifier looks at, drawn by the content of the batch. *Verdict*: what the verifier said of it.
"""
