"""TODM, "train once, deploy many" (paper 2): letters of its models, its claims C2.1 to C2.11, and its table."""

from __future__ import annotations

from slimasr.claims.asked import no_pictures as pictures
from slimasr.claims.todm.models import applies, role
from slimasr.claims.todm.pairs import pairs
from slimasr.claims.todm.tables import tables
from slimasr.claims.todm.verdicts import READING, judge

__all__ = ["READING", "applies", "judge", "pairs", "pictures", "role", "tables"]
