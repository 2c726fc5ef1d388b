"""Calls of AWS's API: what a request is, and what its caller needs to be granted."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from werkzeug.wrappers import Request

from tests.cluster.iam import Need

ACCOUNT = "123456789012"
"""moto's."""

# Parameters of EC2 -> what they name.
_USED = {
    "ImageId": "image", "KeyName": "key-pair", "SubnetId": "subnet", "InstanceId": "instance",
    "SecurityGroupId": "security-group", "GroupId": "security-group", "VpcId": "vpc",
}  # fmt: skip
# Operation -> the kinds of resources that it makes, which have no name before.
_MADE = {
    "RunInstances": ("instance", "network-interface", "volume"),
    "CreateSecurityGroup": ("security-group",),
}
# Method and subresource -> action on an object, or on a bucket.
_OBJECT = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "POST": "PutObject"}
_BUCKET = {"GET": "ListBucket", "HEAD": "ListBucket", "PUT": "CreateBucket", "POST": "DeleteObject"}


@dataclass(frozen=True)
class Call:
    """A call, as AWS reads it."""

    by: str
    """ID of the caller's access key, which is the name of a role or a user here."""
    service: str
    region: str
    operation: str
    parameters: Mapping[str, str]
    """Of EC2, IAM and a call that deletes several objects; a list has a number in each of its
    keys."""
    path: str

    @classmethod
    def of(cls, request: Request) -> "Call":
        """The call of a request, which is signed in AWS's version 4, in a header or its address."""
        header = request.headers.get("Authorization")
        signature = header or f"Credential={request.args.get('X-Amz-Credential')}"
        signed = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", signature)
        assert signed is not None, f"{request} is not signed"
        by, region, service = signed.groups()
        body = request.get_data()
        target = request.headers.get("X-Amz-Target", "").partition(".")[2]
        form = {} if service == "s3" or target else dict(parse_qsl(body.decode()))
        if service == "s3":
            operation = _of_s3(request)
            if "delete" in request.args:
                keys = (key.text or "" for key in ElementTree.fromstring(body).findall(".//{*}Key"))
                form = {f"Key.{number}": key for number, key in enumerate(keys)}
        else:
            operation = target or form["Action"]
        return cls(by, service, region, operation, form, request.path)

    @property
    def name(self) -> str:
        """The name of the action in policies."""
        return f"{self.service}:{self.operation}"

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags for what the call makes."""
        found = {}
        for key, value in self.parameters.items():
            if key.startswith("TagSpecification.") and key.endswith(".Key"):
                found[value] = self.parameters[key.removesuffix("Key") + "Value"]
        return found

    def needs(
        self, tags_of: Callable[[str], Mapping[str, str]], role_of: Callable[[str], str]
    ) -> list[Need]:
        """What the caller must be granted: the call on each of its resources, and what AWS does for
        its sake.

        Args:
            tags_of: tags of an instance or a security group, by ID.
            role_of: role of an instance profile, by name.
        """
        if self.service == "s3":
            # The key of a folder ends with a slash.
            bucket, _, key = self.path.removeprefix("/").partition("/")
            # Several objects are deleted by one call, at their bucket.
            keys = self.parameters.values() or [key]
            return [
                Need(self.name, f"arn:aws:s3:::{bucket}" + f"/{one}" * bool(one)) for one in keys
            ]
        if self.service != "ec2" or self.operation.startswith("Describe"):
            return [Need(self.name)]
        return list(self._needs_of_ec2(tags_of, role_of))

    def _needs_of_ec2(
        self, tags_of: Callable[[str], Mapping[str, str]], role_of: Callable[[str], str]
    ) -> Iterator[Need]:
        for key, value in self.parameters.items():
            name = re.sub(r"\.\d+$", "", key)
            # What CreateTags marks are instances here.
            kind = "instance" if name == "ResourceId" else _USED.get(name)
            if kind is not None and not value.startswith("resolve:ssm:"):
                tags = {f"aws:ResourceTag/{tag}": is_ for tag, is_ in tags_of(value).items()}
                yield Need(self.name, self._arn(kind, value), tags)
        asked = {f"aws:RequestTag/{tag}": value for tag, value in self.tags.items()}
        for kind in _MADE.get(self.operation, ()):
            # Their tags are for instances or the group.
            tags = asked if kind in ("instance", "security-group") else {}
            place = {"aws:RequestedRegion": self.region}
            if kind == "instance":
                place["ec2:InstanceType"] = self.parameters["InstanceType"]
            yield Need(self.name, self._arn(kind, "new"), {**tags, **place})
            if tags:
                context = {"ec2:CreateAction": self.operation, **tags}
                yield Need("ec2:CreateTags", self._arn(kind, "new"), context)
        if "InstanceMarketOptions.MarketType" in self.parameters:
            yield Need(self.name, self._arn("spot-instances-request", "new"))
        if parameter := self.image_parameter:
            arn = f"arn:aws:ssm:{self.region}::parameter{parameter}"
            yield Need("ssm:GetParameters", arn)
        if profile := self.parameters.get("IamInstanceProfile.Name"):
            arn = f"arn:aws:iam::{ACCOUNT}:role/{role_of(profile)}"
            yield Need("iam:PassRole", arn, {"iam:PassedToService": "ec2.amazonaws.com"})

    @property
    def image_parameter(self) -> str | None:
        """The parameter of Systems Manager that AWS takes the image from."""
        image = self.parameters.get("ImageId", "")
        return image.removeprefix("resolve:ssm:") if image.startswith("resolve:ssm:") else None

    def _arn(self, kind: str, name: str) -> str:
        # Images may belong to another account.
        owner = "" if kind == "image" else ACCOUNT
        return f"arn:aws:ec2:{self.region}:{owner}:{kind}/{name}"

    def refusal(self, refused: list[Need]) -> tuple[str, str]:
        """Type and text of AWS's answer to a caller who is not granted what the call needs."""
        missing = ", ".join(f"{need.action} on {need.resource}" for need in refused)
        text = f"{self.by} may not {missing}"
        if self.service == "ec2":
            error = f"<Error><Code>UnauthorizedOperation</Code><Message>{text}</Message></Error>"
            return "text/xml", f"<Response><Errors>{error}</Errors></Response>"
        if self.parameters or self.service == "s3":
            error = f"<Error><Code>AccessDenied</Code><Message>{text}</Message></Error>"
            wrapped = error if self.service == "s3" else f"<ErrorResponse>{error}</ErrorResponse>"
            return "text/xml", wrapped
        return "application/json", json.dumps({"__type": "AccessDeniedException", "message": text})


def _of_s3(request: Request) -> str:
    key = request.path.strip("/").partition("/")[2]
    if request.method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in request.args else "DeleteObject"
    return (_OBJECT if key else _BUCKET)[request.method]
