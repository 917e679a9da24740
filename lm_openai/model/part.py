"""Part of the instances, for a host that spreads them over several items."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple


class Part(NamedTuple):
    """Part `number` of `total`, from 1; an instance's part depends on its wildvalue alone."""

    number: int
    total: int

    def holds(self, wildvalue: str) -> bool:
        """Return True if the instance belongs to this part."""
        digest = blake2b(wildvalue.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.total == self.number - 1


def parse(text: str) -> Part:
    """Return the part that `2/3` names; raises ValueError for anything else."""
    found = re.fullmatch(r"([1-9]\d{0,2})/([1-9]\d{0,2})", text, re.ASCII)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError("give number and total, such as 1/3, 2/3 or 3/3")
    return Part(int(found[1]), int(found[2]))
