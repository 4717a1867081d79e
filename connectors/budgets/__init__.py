"""Budgets: how often an app may be called, kept over all processes by rows."""
