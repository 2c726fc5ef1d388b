"""One training: torch, torchvision and safetensors only, so that it runs where nothing else is
installed; figures and gpu_use, which may be missing there, import more.

sources            the data sets: read from their files and split
data               a data set as tensors: batches, augmentation
randomness         seeds, and algorithms that give the same bits each time
optimizers         the optimizer, and its learning rate over time
orthogonalization  matrices with all singular values near 1, for Muon
training           the steps: epoch by epoch, to a report
evaluation         what a network measures: accuracy, certificate, inverse
ladder             a trained network projected to smaller coefficients
network_files      a network with its proof, written to files
state_file         the state of a training, written to a file and read back
figures            pictures of those files; the only import of matplotlib
gpu                whether CUDA works, and what its failures mean for a user
gpu_use            how much a GPU is used
time_spent         the CPU and GPU hours of a trial
device_name        what a processor or GPU is called
rehearsal          what a trial would take, measured in a few steps
check              whether a trial could run at all
"""
