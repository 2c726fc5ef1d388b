"""One training. It needs torch, torchvision and safetensors only.

data                  the data sets, as tensors
training              the steps: epoch by epoch, to a report
head                  the classifier that a network starts with, and its loss
optimizers            the optimizer, and its learning rate over time
orthogonalization     matrices with all singular values near 1, for Muon
measured              what is measured of a network, and the files that keep it
ladder                a trained network projected to smaller bounds
randomness            seeds, and algorithms that give the same bits each time
state_file            the state of a training, written to a file and read back
device                the processor or GPU: name, use, and what to change if CUDA does not work
time_spent            the CPU and GPU hours of a trial
rehearsal             how long a trial would take, measured in a few steps
check                 whether a trial could run at all
"""
