"""results.json of an experiment: every subnet that was measured, and what made the run."""
