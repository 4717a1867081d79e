"""What runs rest at and reach for outside of themselves: calls of flows, awaited events, the store.

meeting   what a run does at such a step, in memory; the rest happens in the commit that records it
deeds     that commit: every deed of a step stands or falls with the record of its run
calls     flows that flows call: the child's row, what it gives back, who is woken and cancelled
waits     events that runs wait for: who waits, what arrived, and how they find each other
quota     how many runs of an organization may rest
pretend   the same without a database, for trying a flow out
"""
