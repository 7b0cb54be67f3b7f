"""Partner feed readers: files of operators and recorders become acts and rejects, row by row.

Words. A *feed* is one file in a partner's published format. A *row* is one data row of it (one recorded track for GPS
files). An *act* is what a row, or a pair of rows, proves: kind, quantity in a base unit, when, whose, the operator's
own reference. A *reject* is a row that proves nothing, with its reason: rows never vanish, so the rows of all acts and
rejects of a feed add up to the rows of its file. A *holder* is the person in the operator's world (a card); whose
account that is, whether the act earns and how much is decided elsewhere.

Readers parse and measure. They must not know citizens, rules, points, the database or the network.
"""
