"""The processes on the nodes.

trainable    trains one trial after another
batching     which reports travel to the driver together
"""
