"""Streams: apps that send over a line that the hub opened, so that it needs no public address.

A held stream is a source and a lease: one process at a time listens, and a message is acknowledged
once its event is committed, never before.
"""
