"""Environments: flows run in test and live, by different versions and over different connections.

A connection, a source and a published version each belong to `live` or to `test`. What comes in at
a test source starts only the versions that were published to test, and the other way round.
"""
