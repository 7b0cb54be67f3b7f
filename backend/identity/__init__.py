"""Who asks and for whom: principals, their tokens, partners' sources, and which citizen an external account belongs to.

*Principal*: a citizen, merchant, partner, enterprise or member of staff, proven by a signed token. *Source*: where
actions come from; a partner's source belongs to that partner alone. *External id*: a citizen's card or user number in a
partner's world, kept only as a keyed hash. *Binding*: the citizen whom an external id of a source stands for. *Family*:
at most eight citizens who may give points to one another, where the programme lets them. *Invitation*: a code that lets
one citizen join a family once, kept only as a keyed hash.
"""
