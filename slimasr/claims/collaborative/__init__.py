"""Collaborative training (paper 3): names of its models, its claims C3.1 to C3.7, and its table."""

from __future__ import annotations

from slimasr.claims.asked import no_pictures as pictures
from slimasr.claims.collaborative.models import applies, role
from slimasr.claims.collaborative.pairs import pairs
from slimasr.claims.collaborative.tables import tables
from slimasr.claims.collaborative.verdicts import READING, judge

__all__ = ["READING", "applies", "judge", "pairs", "pictures", "role", "tables"]
