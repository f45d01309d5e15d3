"""The papers' claims, judged from what a study holds."""

from __future__ import annotations

from slimasr.report.claims_slimmable import judge_slimmable
from slimasr.report.claims_todm import judge_todm
from slimasr.report.records import Study
from slimasr.report.roles import SLIMMABLE
from slimasr.report.verdicts import Finding


def judge(study: Study) -> list[Finding]:
    """Every claim of the papers whose supernets the study has, in order; of paper 1's without any supernet."""
    todm = any(run.is_todm for run in study.runs)
    slimmable = not todm or any(run.role.startswith(SLIMMABLE) for run in study.runs)
    return [*(judge_slimmable(study) if slimmable else ()), *(judge_todm(study) if todm else ())]
