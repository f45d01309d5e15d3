"""Stage 1: checked manifests of the utterances that a corpus lists."""
