"""Speech of the user's own, in the formats in which it is found."""
