"""Synthesised speech: digits in several languages, spoken by espeak-ng in simulated rooms."""
