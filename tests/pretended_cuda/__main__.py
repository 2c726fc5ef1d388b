"""See the package."""

import sys
from pathlib import Path

from tests import pretended_cuda

if __name__ == "__main__":
    pretended_cuda.load()
    import pytest

    sys.exit(pytest.main([str(Path(__file__).parent), "-n", "0", *sys.argv[1:]]))
