"""Health: how calls over connections go, what ends when, tokens kept alive ahead of time."""
