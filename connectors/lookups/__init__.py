"""Lookups: what an app has to choose from, kept for a while so that forms open at once."""
