"""Dynamic ASR Pathways (paper 5): names of its models, its claims C5.1 to C5.9, its tables and pictures."""

from __future__ import annotations

from slimasr.claims.pathways.models import applies, role
from slimasr.claims.pathways.pairs import pairs
from slimasr.claims.pathways.pictures import pictures
from slimasr.claims.pathways.tables import tables
from slimasr.claims.pathways.verdicts import READING, judge

__all__ = ["READING", "applies", "judge", "pairs", "pictures", "role", "tables"]
