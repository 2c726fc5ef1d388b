"""Verification of a stored network: built and certified again, and compared with its run's claims.

proof         verification of a network, and its result; loading of a network
mlmodel       which run a logged model belongs to, and what MLflow would load and install with it
claims        a stored certificate compared with a new certificate of the weights
meaning       what the figures of a network mean: its files and its study must say the same
measured      the figures of a network, measured again on its data
member        a member of a family that was not stored, made from stored ones
added         the same, stored as a network of its study
tolerances    how far a figure measured again may be from the stored one, and why
"""
