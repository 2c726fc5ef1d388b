"""The data of a trial.

sources      the data sets: read from their files, and split
own          data sets of the user's own
remote_root  a data root at an address, fetched once a node
tensors      a data set as tensors: splits, batches, augmentation
"""
