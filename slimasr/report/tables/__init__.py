"""Tables of reports, and drawing them on a terminal."""
