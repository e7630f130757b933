"""The node over HTTP: who is there, what they may do, and what they are answered.

``rules`` says which request needs which role, ``tokens`` and ``issuer`` tell whose a
token is, ``doorman`` decides with them and keeps count, ``guard`` stands before every
route. ``api`` and ``page`` are what stands behind it, beside STOW-RS; ``server``
listens.
"""
