"""Sweeps: what lies in a sweep's directory, the table while it runs, the answer at its end."""
