"""The CUDA path of models and study, on a pretended device: see `device`.

python -m tests.pretended_cuda runs `checks`, in a process of its own: torch must meet the device
before anything else of torch is imported."""
