"""Result files: their typed layout, reading them, and changing results.json."""
