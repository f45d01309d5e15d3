"""Mask learning with OrthoSoftmax (paper 4): names of its models, its claims C4.1 to C4.8, and its tables."""

from __future__ import annotations

from slimasr.claims.asked import no_pictures as pictures
from slimasr.claims.orthosoftmax.models import applies, role
from slimasr.claims.orthosoftmax.pairs import pairs
from slimasr.claims.orthosoftmax.tables import tables
from slimasr.claims.orthosoftmax.verdicts import READING, judge

__all__ = ["READING", "applies", "judge", "pairs", "pictures", "role", "tables"]
