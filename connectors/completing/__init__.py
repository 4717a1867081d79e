"""Completing: events that say little are filled up from their app, or put into the hub's words."""
