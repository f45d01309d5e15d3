"""What sets hold, and which utterances look wrong: `slimasr-inspect` and the notes of stage 1."""
