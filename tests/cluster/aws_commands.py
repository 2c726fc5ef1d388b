"""The commands of `aws` on the page of the cluster, run by the tests without that program."""

import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
from botocore import xform_name
from botocore.model import Shape
from botocore.validate import validate_parameters

from tests.cluster.derived import ROOT

_END = "--end--"
# Replaces the program `aws`: prints the arguments.
_PRINTED = f'aws() {{ printf "%s\\0" "$@" {_END}; }}\n'
# Services that moto does not have, or not with this call: the call is compared with its model only.
_UNKNOWN_TO_MOTO = {("service-quotas", "request-service-quota-increase")}


def commands(folder: Path) -> list[list[str]]:
    """Arguments of each `aws` on the page, whose other commands are run in `folder`."""
    page = (ROOT / ".cluster" / "README.md").read_text()
    (block,) = re.findall(r"<!-- aws-commands -->\n```\n(.*?)```", page, re.DOTALL)
    done = subprocess.run(
        ["bash", "-euc", _PRINTED + block], cwd=folder, check=True, capture_output=True, text=True
    )
    return [part.rstrip("\0").split("\0") for part in done.stdout.split(_END + "\0") if part]


def run(command: list[str], folder: Path, url: str, key: str) -> None:
    """Make the call of a command, with paths relative to `folder`."""
    service, operation, *options = command
    session = boto3.Session(key, "testing", region_name="us-east-1")
    client: Any = session.client(service.replace("s3api", "s3"), endpoint_url=url)
    method = operation.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    names = {xform_name(name, "-"): name for name in model.input_shape.members}
    parameters = {}
    for option, text in zip(options[::2], options[1::2], strict=True):
        name = names[option.removeprefix("--")]
        parameters[name] = _value(text, model.input_shape.members[name], folder)
    if (service, operation) in _UNKNOWN_TO_MOTO:
        validate_parameters(parameters, model.input_shape)
    else:
        getattr(client, method)(**parameters)


def _value(text: str, shape: Shape, folder: Path) -> str | float:
    if text.startswith("file://"):
        return (folder / text.removeprefix("file://")).read_text()
    return float(text) if shape.type_name in ("double", "float", "integer") else text
