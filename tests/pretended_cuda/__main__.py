"""See the package."""

import ctypes
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def load() -> None:
    """Make torch take tensors on cuda:0, for the rest of the process. Needs g++, and a torch that
    is built without CUDA: another one brings a device of that kind, and ends the process."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "libdevice.so"
        command = ["g++", "-shared", "-fPIC", "-std=c++20", "-O0", "-o", str(built)]
        command += [f"-I{torch}/include", f"-I{torch}/include/torch/csrc/api/include"]
        subprocess.run([*command, str(HERE / "device.cpp")], check=True)
        for library in (torch / "lib/libc10.so", torch / "lib/libtorch_cpu.so", built):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


if __name__ == "__main__":
    load()
    import pytest

    sys.exit(pytest.main([str(HERE / "checks.py"), "-n", "0", *sys.argv[1:]]))
