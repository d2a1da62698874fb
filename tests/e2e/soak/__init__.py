"""An hour of everything at once: clients of all kinds, misfortune, and scales under every process."""
