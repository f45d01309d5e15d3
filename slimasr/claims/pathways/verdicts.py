"""Judge the claims of paper 5: most of them by comparisons of systems, some by what masks have in common."""

from __future__ import annotations

from dataclasses import replace

from slimasr.claims.asked import UNFAIR, Found, evidence_of, found_for, is_fair, prefix_of
from slimasr.claims.pathways.masks import masks_overlap, unions
from slimasr.claims.pathways.models import pathway_families
from slimasr.claims.pathways.pairs import MARGIN, family_pairs
from slimasr.claims.pathways.systems import mean_wer, systems_in
from slimasr.report.comparison.rates import Comparison
from slimasr.report.findings import Finding
from slimasr.report.records import Study

READING = (
    f"In the claims of paper 5 the margin is {MARGIN:g} % of the second system's WER, and intervals are judged in "
    'percent of it. "Better" is held when the interval lies below 0 altogether, not held when it lies above. '
    "Comparisons are over the test sets alone, whose utterances are resampled together, each language with the subnet "
    "that is meant for it."
)

_TEXTS = {
    "C5.1": "Adaptive masks are better than fixed ones for IMP and LTH, in every language and over all of them (in "
    "the paper by 5.3 % on average).",
    "C5.2": "Adaptive masks of one language are better than ASR Pathways, and ASR Pathways is better than fixed masks "
    "of one language, on average and within one kind of masks (in the paper 13.79 and 13.53 % for adaptive "
    "IMP and LTH, 14.06 and 13.75 % for ASR Pathways, 14.57 and 14.28 % for fixed masks; not in Dutch).",
    "C5.3": "In Dynamic ASR Pathways, masks at 50 % are a better start than masks at 70 % and at 20 %, for LTH and "
    "LAP; from LTH's at 50 % it is better than ASR Pathways with LTH's at 70 % (in the paper by 5.8 %, in two "
    "languages).",
    "C5.4": "Adaptation alone, from LAP's mask at 70 %, is better than ASR Pathways with this mask (in the paper by "
    "12.1 %, but against a model of four languages; here both are trained on the same ones). From LTH's masks "
    "at 70 %, which are shown too, it gains 0.4 % in the paper and loses in French.",
    "C5.5": "Dynamic ASR Pathways from LAP's mask reaches ASR Pathways with LTH's masks at 70 % (in the paper 13.54 "
    "to 13.76 % against 13.48 %).",
    "C5.6": "With all languages, Dynamic ASR Pathways from LTH's masks at 50 % is better than ASR Pathways with LTH's "
    "at 70 %, over all of them and over all but English (in the paper by 2 and 5.5 %, from an early "
    "checkpoint and worse in English).",
    "C5.8": "LAP harms the language with least data, Italian (in the paper 27.71 against 16.94 % of the dense model "
    "of all languages), and masks of one language at 70 % match or beat this dense model (in the paper on "
    "average only: Italian is worse for both kinds, French and Dutch for IMP). Training without pruning, "
    "which is shown too, tells what pruning costs.",
}


def judge(study: Study) -> list[Finding]:
    """Judge all nine claims, in order."""
    return [
        *(compared(study, f"C5.{number}") for number in range(1, 7)),
        unions(study),
        compared(study, "C5.8"),
        masks_overlap(study),
    ]


def compared(study: Study, claim: str) -> Finding:
    """Judge a claim that must hold in all comparisons made for it."""
    found = found_for(study, claim, pathway_families(study.runs), family_pairs)
    return evidence_of(study, found, judged=relative, line=_line).finding(claim, _TEXTS[claim])


def relative(comparison: Comparison) -> Comparison:
    """Return a comparison whose difference and interval are in percent of the second system's WER."""
    # Without an error of the second system, every difference is infinitely large; points are as good then.
    scale = 100.0 / comparison.wer_b if comparison.wer_b else 1.0
    low, high = scale * comparison.low, scale * comparison.high
    return replace(comparison, delta=scale * comparison.delta, low=low, high=high)


def _line(study: Study, found: Found) -> str:
    """Write out a comparison: what is compared, both WERs, the difference in points and in percent, and the means."""
    comparison, asked = found.comparison, found.asked
    share = relative(comparison)
    text = (
        f"{prefix_of(found.family)}{asked.what}: {comparison.wer_a:.2f} against {comparison.wer_b:.2f} %, difference "
        f"{comparison} points, {share.delta:+.1f} % [{share.low:+.1f}, {share.high:+.1f}]{_means(study, found)}"
    )
    return text if is_fair(study, asked) else f"{text}{UNFAIR}"


def _means(study: Study, found: Found) -> str:
    """Add the unweighted means to what is pooled over several languages, as the paper has them."""
    languages = [part.language for part in found.asked.parts]
    if len(languages) < 2:
        return ""
    systems = {system.name: system for system in systems_in(found.family.runs)}
    means = [mean_wer(study, systems[name], languages) for name in (found.asked.a[0], found.asked.b[0])]
    if None in means:
        return ""
    first, second = (mean or 0.0 for mean in means)
    change = f" ({100 * (first / second - 1):+.1f} %)" if second else ""
    return f"; means over languages {first:.2f} and {second:.2f} %{change}"
