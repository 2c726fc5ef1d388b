import logging

import pytest
import ray
import torch

from study.errors import LaunchError
from study.execution.driver import nodes


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_a_node_that_offers_gpus_without_cuda_is_named_with_the_reason() -> None:
    """Ray believes what it is told of GPUs."""
    ray.init(
        num_cpus=1,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        here = ray.util.get_node_ip_address()
        with pytest.raises(LaunchError, match=rf"^node {here}: resources\.gpus: "):
            nodes.check_gpus(ray.nodes())
        without = [{**node, "Resources": {"CPU": 1}} for node in ray.nodes()]
        nodes.check_gpus(without)  # it offers none
    finally:
        ray.shutdown()
