"""What is measured of a network, and the files that keep it.

evaluation            accuracy, certificate, radii and inverse
attack                what projected gradient descent leaves right
own                   blocks of the user's own against their bounds; metrics of the user's own
network_files         a network with its proof, written to files
reconstruction_image  a picture of images above their reconstructions
"""
