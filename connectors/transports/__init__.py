"""Transports: how apps are called that speak no HTTP (decision 0018).

The engine builds the same request for all; here it is carried out over mail's and files' own
protocols, and what came of it is told as an answer with a status and a JSON body.
"""
