"""Reconnecting: a link lets somebody without an account renew exactly one connection, once."""
