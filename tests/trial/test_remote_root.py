"""Data at an address: fetched once, fetched again when it changes, and missed in one line."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import torch
from moto.server import ThreadedMotoServer
from PIL import Image

from study.config.data import DataConfig
from study.config.parser import parse
from study.errors import DataNotFoundError
from study.execution.driver.preflight import check_trials
from study.trial.data import remote_root, sources
from tests.support.studies import RAW

ROOT = "s3://a-bucket/images"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A client of a store on this machine, in which there is a folder of images."""
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(remote_root, "_CACHE", tmp_path / "cache")
    client = boto3.client("s3")
    client.create_bucket(Bucket="a-bucket")
    for label in ("dark", "bright"):
        for number in range(6):
            _put(client, f"images/train/{label}/{number}.png", 40 * number * (label == "bright"))
    sources.load.cache_clear()
    yield client
    client.close()
    server.stop()


def _put(client: Any, key: str, level: int) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, dtype=np.uint8)).save(picture, "PNG")
    client.put_object(Bucket="a-bucket", Key=key, Body=picture.getvalue())


def test_a_folder_of_images_is_fetched_once_and_again_when_it_changes(
    store: Any, tmp_path: Path
) -> None:
    config = DataConfig("image_folder", root=ROOT, size=4, val_fraction=0.2)
    data = sources.load(config)
    assert (len(data.train), len(data.val), len(data.test)) == (8, 2, 2)
    assert data.n_classes == 2
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    (folder / "train" / "dark" / "7.png").write_bytes(
        (folder / "train" / "dark" / "0.png").read_bytes()
    )
    sources.load.cache_clear()
    # What is there is taken, and with it the image that the store has not.
    again = sources.load(config)
    assert len(again.train) + len(again.val) + len(again.test) == 13
    _put(store, "images/train/bright/3.png", 201)
    sources.load.cache_clear()
    changed = sources.load(config)
    assert len(changed.train) + len(changed.val) + len(changed.test) == 12
    images = torch.cat([split.images for split in (changed.train, changed.val, changed.test)])
    assert bool((images == 201).any())


def test_what_is_not_there_is_said_in_a_line(store: Any) -> None:
    for root, message in (
        ("s3://no-bucket/images", "must be readable from every node, but s3://no-bucket/images"),
        ("s3://a-bucket/nothing", "there must be files at it, but there are none"),
        ("nothing://a-bucket/images", "must be readable from every node, but nothing://"),
    ):
        study = parse({**RAW, "data": {"name": "image_folder", "root": root}}, "s.yaml")
        with pytest.raises(DataNotFoundError, match=message) as error:
            sources.load(study.data)
        assert error.value.key == "data.root"
        assert "\n" not in str(error.value)
        with pytest.raises(ValueError, match=r"^s.yaml: data.root: "):
            check_trials(study, "s.yaml")
