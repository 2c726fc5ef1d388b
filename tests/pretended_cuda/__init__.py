"""The CUDA path of models and study, on a device that is pretended: see `device`.

    python -m tests.pretended_cuda [pytest's options]

runs the tests of this folder. The suite runs that in a process of its own, since torch must meet
the device before anything else of torch is imported.
"""

import ctypes
import importlib.util
import subprocess
import tempfile
from pathlib import Path

is_loaded = False


def load() -> None:
    """Make torch take tensors on cuda:0, for the rest of the process. Needs g++, and a torch that
    is built without CUDA: another one brings a device of that kind, and ends the process."""
    global is_loaded
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "libdevice.so"
        command = ["g++", "-shared", "-fPIC", "-std=c++20", "-O0", "-o", str(built)]
        command += [f"-I{torch}/include", f"-I{torch}/include/torch/csrc/api/include"]
        command += [str(Path(__file__).with_name("device.cpp"))]
        subprocess.run(command, check=True)
        for library in (torch / "lib/libc10.so", torch / "lib/libtorch_cpu.so", built):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    is_loaded = True
