"""The pure core: every decision of the gateway.

Nothing in here does I/O, reads a clock, draws random bytes or logs. ``now`` is always an argument, so that a decision
can be replayed: same inputs, same verdict.
"""
