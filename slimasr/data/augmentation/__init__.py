"""Changes of training audio: random levels, noise, rooms and telephone lines."""
