"""Audio files and streams: opened, checked, resampled."""
