"""A stored network verified: fetched, built and certified once, and held against what its run says.

proof         the verification, and its result; the network alone, loaded
mlmodel       whose model a logged one is, and what MLflow would load and install with it
claims        a stored certificate against the certificate of the weights now
meaning       what the figures of a network mean: its files and its study must say the same
measured      its figures, measured again on its data
tolerances    how far these may be from the stored ones, and why
"""
