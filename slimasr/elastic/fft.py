"""Lengths for which a fast Fourier transform is fast."""

from __future__ import annotations


def fast_length(at_least: int) -> int:
    """Return the smallest number 2^a 3^b 5^c that is not below ``at_least`` (1 or more).

    Transforms of such lengths are split into short ones. The same as ``scipy.fft.next_fast_len(n, real=True)``, whose
    import takes longer than all the code of this package.
    """
    best = 1 << (at_least - 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            # The smallest power of two by which ``odd`` reaches the length: 2^a >= at_least / odd, rounded up.
            quotient = -(-at_least // odd)
            best = min(best, odd << (quotient - 1).bit_length())
            odd *= 3
        fives *= 5
    return best
