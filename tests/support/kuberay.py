"""Validates resources of Kubernetes and KubeRay by their schemas, without a cluster."""

from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest.mock import patch

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

Resource = dict[str, Any]

# Of Kubernetes, an old one and the newest that kubernetes-validate knows.
VERSIONS = ("1.31", "1.37")

_TEXT, _FLAG, _MAP = {"type": "string"}, {"type": "boolean"}, {"type": "object"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}


def _fields(required: tuple[str, ...] = (), **fields: Resource) -> Resource:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def _kind(spec: Resource) -> Resource:
    return _fields(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"}, kind=_TEXT, metadata=_fields(("name",), name=_TEXT),
        spec=spec,
    )  # fmt: skip


# Of KubeRay's CRDs, rayclusters.ray.io and rayjobs.ray.io v1 as of 1.6, the fields that are used,
# with their types, enums and which are required. A whole one is a megabyte, most of it Kubernetes'
# pod template written out, which Kubernetes' own schema checks below. Who uses another field looks
# it up there, and adds it here.
SCHEMAS = {
    "RayCluster": _kind(
        _fields(
            ("headGroupSpec",),
            rayVersion=_TEXT,
            authOptions=_fields(mode={"enum": ["disabled", "token"]}),
            enableInTreeAutoscaling=_FLAG,
            autoscalerOptions=_fields(
                version={"enum": ["v1", "v2"]},
                idleTimeoutSeconds=_COUNT, resources=_MAP, securityContext=_MAP,
                volumeMounts={"type": "array"},
            ),
            headGroupSpec=_fields(("template",), rayStartParams=_TEXTS, template=_MAP),
            workerGroupSpecs={
                "type": "array",
                "items": _fields(
                    ("groupName", "minReplicas", "maxReplicas", "template"),
                    groupName=_TEXT, replicas=_COUNT, minReplicas=_COUNT, maxReplicas=_COUNT,
                    rayStartParams=_TEXTS, template=_MAP,
                ),
            },
        )
    ),
    "RayJob": _kind(
        _fields(
            clusterSelector=_TEXTS, entrypoint=_TEXT, submitterPodTemplate=_MAP,
        )
    ),
}  # fmt: skip


def pod_templates(resource: Resource) -> Iterator[Resource]:
    """The pod templates of a resource of any kind."""
    spec = resource.get("spec", {})
    groups = [spec.get("headGroupSpec", {}), *spec.get("workerGroupSpecs", [])]
    found = [spec.get("template"), spec.get("submitterPodTemplate")]
    yield from filter(None, [*found, *(group.get("template") for group in groups)])


def validate(resource: Resource, version: str) -> None:
    """Raise jsonschema.ValidationError if a resource has a wrong or an unknown field, for a version
    of Kubernetes."""
    if resource["kind"] not in SCHEMAS:
        _by_kubernetes(resource, version)
        return
    # jsonschema.validate would check the schema itself each time.
    jsonschema.Draft202012Validator(SCHEMAS[resource["kind"]]).validate(resource)
    templates = list(pod_templates(resource))
    if options := resource["spec"].get("autoscalerOptions"):
        # The parts of a container that the operator takes over into the autoscaler's.
        taken = ("resources", "securityContext", "volumeMounts")
        parts = {key: options[key] for key in taken if key in options}
        templates.append({"spec": {"containers": [{"name": "autoscaler", **parts}]}})
    for template in templates:
        as_resource = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}}
        _by_kubernetes({**as_resource, "template": template}, version)


def _by_kubernetes(resource: Resource, version: str) -> None:
    # It would read two megabytes for each resource.
    with patch.object(utils, "schema_contents", _schema_contents):
        kubernetes_validate.validate(resource, version, strict=True)


_schema_contents = cache(utils.schema_contents)
