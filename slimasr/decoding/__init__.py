"""From encoder output to text: greedy and beam search, decoding of sets, transcription of audio files."""
