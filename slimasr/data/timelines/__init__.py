"""When units are spoken: folders of alignments, CTM files, and the frame targets that follow from them."""
