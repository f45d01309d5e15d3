"""slimasr: train one speech recogniser, ship many sizes of it."""
