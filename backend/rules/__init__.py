"""Rules: how a recorded act becomes grams of CO2e and points, and where each figure comes from.

Words. *Kind*: a sort of act with one base unit (``metro`` in metres). *Claim*: attributes that together identify the
physical act, so that it counts once. *Evidence tier*: who recorded the act (typed by hand, the citizen's own device,
an operator, a scale or a meter). *Methodology*: the published document a factor is taken from. *Rule*: how one kind
converts, known by its code; *rule version*: one immutable wording of it, in force over a half-open span of time.
*Factor*: milligrams of CO2e per base unit, an exact ratio. *Share*: the part credited when the evidence is below the
tier the rule asks for. *Cap*: the most a citizen is credited in a local day, ISO week, month or year; rules that name
the same *group* draw on the same cap. *Usage*: what a citizen has drawn so far. *Conversion*: what one act earns
under one rule version, with the reason when it earns nothing and the steps that led there. *Profile*: a consistent
set of kinds and rules; two profiles are never mixed in one issuance batch. *Quantified* reductions may be issued as
credits; *recognised* ones count for points only. *Rule book*: all that is published; each *publication* adds to it
under the next *revision*, and nothing published ever changes. *Draft*: a text of a rule, a kind, a campaign or the
programme's limits on its way there, in a *stage*; a *step* brings it on, and the *log* tells every step. *Problem*:
what keeps a text from being used, by its field. *To retire* a rule: to publish a version that is switched off from a
date on.
"""
