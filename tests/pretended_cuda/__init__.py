"""The CUDA path of models and study, on a device that is pretended: see `device`.

    python -m tests.pretended_cuda [pytest's options]

runs the tests in `checks`. The suite runs them so, in a process of their own, since torch must meet
the device before anything else of torch is imported.
"""
