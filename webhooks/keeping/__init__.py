"""Keeping: how long data lives, where it goes then, and what people may ask to be done with it."""
