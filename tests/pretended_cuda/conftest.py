"""These tests need torch to have met the device as it was imported."""

from tests import pretended_cuda

collect_ignore_glob = [] if pretended_cuda.is_loaded else ["test_*.py"]
