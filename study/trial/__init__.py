"""One training. It needs torch, torchvision and safetensors only.

sources               the data sets: read from their files and split
data                  a data set as tensors: batches, augmentation
randomness            seeds, and algorithms that give the same bits each time
optimizers            the optimizer, and its learning rate over time
orthogonalization     matrices with all singular values near 1, for Muon
training              the steps: epoch by epoch, to a report
evaluation            what a network measures: accuracy, certificate, inverse
own_blocks            blocks of the user's own, held against what their author proves
attack                what projected gradient descent leaves right
ladder                a trained network projected to smaller bounds
network_files         a network with its proof, written to files
reconstruction_image  a picture of images above their reconstructions
state_file            the state of a training, written to a file and read back
gpu                   whether CUDA works, and what a user can do if not
device                what a processor or GPU is called, and how much it is used
time_spent            the CPU and GPU hours of a trial
rehearsal             how long a trial would take, measured in a few steps
check                 whether a trial could run at all
"""
