import pytest
import ray
import torch

from study.errors import LaunchError
from study.execution.driver import nodes


@pytest.mark.usefixtures("one_ray")
@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_a_node_that_offers_gpus_without_cuda_is_named_with_the_reason() -> None:
    """Ray believes what it is told of GPUs."""
    nodes.check_gpus(ray.nodes())  # it offers none
    here = ray.util.get_node_ip_address()
    with pytest.raises(LaunchError, match=rf"^node {here}: resources\.gpus: "):
        nodes.check_gpus([{**node, "Resources": {"GPU": 2}} for node in ray.nodes()])
