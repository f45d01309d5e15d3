"""Transducer losses: k2's six functions, with its argument names, shapes and numbers, with or without k2.

A seventh function in the same style, `rnnt_loss_restricted`, sums only the alignments near a given one. Its windows
come from `emission_windows`, and the positions for the joiner from `restricted_ranges` and `do_rnnt_pruning`.

Arguments shared by all losses (B utterances, S symbols, T frames, C output units, blank among them):

- ``symbols`` (B, S) int64, padded with any unit; ``termination_symbol`` is the blank.
- ``boundary`` (B, 4) int64 rows ``[s_begin, t_begin, s_end, t_end]``, with ``0, 0, S, T`` as default.
- ``rnnt_type``: ``regular`` (any number of symbols per frame), ``modified`` (a symbol takes a frame) or
  ``constrained`` (as modified, and the blank after a symbol is paid for on the same frame).
- ``delay_penalty``: nats per frame by which an earlier symbol is favoured; 0 is off.
- ``reduction``: ``none`` returns (B,), one sum over alignments per utterance in nats; ``mean`` and ``sum`` reduce
  over utterances.
- ``backend``: the implementation of the lattice recursion; ``auto`` is k2 if it can be imported, else torch.

Losses are float32 (float64 for float64 input), also under autocast. An utterance without any path through the lattice,
such as more symbols than frames when a symbol takes a frame, has loss +inf and zero gradient. All functions
raise ValueError for an unknown option or a boundary outside of the lattice, and `slimasr.errors.UserError`
for ``backend="k2"`` without k2.
"""

from __future__ import annotations

from slimasr.losses.transducer.backend import k2_import_error, resolve_backend
from slimasr.losses.transducer.restricted import EmissionWindows, emission_windows, restricted_ranges
from slimasr.losses.transducer.rnnt import (
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    rnnt_loss,
    rnnt_loss_pruned,
    rnnt_loss_restricted,
    rnnt_loss_simple,
    rnnt_loss_smoothed,
)

__all__ = [
    "EmissionWindows",
    "do_rnnt_pruning",
    "emission_windows",
    "get_rnnt_prune_ranges",
    "k2_import_error",
    "resolve_backend",
    "restricted_ranges",
    "rnnt_loss",
    "rnnt_loss_pruned",
    "rnnt_loss_restricted",
    "rnnt_loss_simple",
    "rnnt_loss_smoothed",
]
