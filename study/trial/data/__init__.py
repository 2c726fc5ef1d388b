"""The data of a trial: sources reads and splits it, into the tensors of a Dataset."""
