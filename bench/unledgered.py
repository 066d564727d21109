"""A gateway that keeps no record of its decisions, to measure what keeping it costs. No province can have one.

``python -m bench.unledgered`` takes the arguments of ``mrg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from unittest.mock import patch

from gateway.__main__ import main
from gateway.ledger import Ledger
from gateway.storage import Committed, LedgerEntry, Outcome

_NOWHERE: Final = Committed(outcome=Outcome.WRITTEN, log_id="", position=0)


class _Unledgered(Ledger):
    """Says of everything that it was written."""

    def record(self, item: LedgerEntry) -> Committed:
        del item
        return _NOWHERE

    def record_all(self, items: Sequence[LedgerEntry]) -> Sequence[Committed]:
        return [_NOWHERE] * len(items)


if __name__ == "__main__":
    with patch("gateway.app.Ledger", _Unledgered):
        main()
