"""AWS for the hosts: moto answers, what the callers' policies do not grant is refused, and the
instances are the hosts."""

import io
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from tests.cluster.calls import ACCOUNT, Call
from tests.cluster.hosts import Host, Hosts
from tests.cluster.iam import Need
from tests.cluster.machines import Machines

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ADMINISTRATOR = "administrator"
REGION = "us-east-1"
# moto knows no images by a parameter of Systems Manager.
_IMAGE = "ami-12c6146b"


@dataclass(frozen=True)
class Answered:
    """A call, and what it lacked."""

    call: Call
    refused: list[Need]
    status: int


class _Quiet(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the calls are kept."""


class Cloud:
    """A WSGI application in moto's place. Callers sign with the name of their user or role as the
    access key; the administrator may do all."""

    def __init__(self, hosts: Hosts, laptop: Host) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.machines = Machines(hosts, laptop)
        self._lock = threading.Lock()
        self.answered: list[Answered] = []
        self.url = ""

    @property
    def instances(self) -> dict[str, Any]:
        """ID -> moto's instance, terminated ones too."""
        reservations = ec2_backends[ACCOUNT][REGION].all_reservations()
        return {each.id: each for reservation in reservations for each in reservation.instances}

    def tags(self, resource: str) -> dict[str, str]:
        """Tags of an instance or a security group, by ID."""
        found = ec2_backends[ACCOUNT][REGION].describe_tags({"resource-id": [resource]})
        return {tag["key"]: tag["value"] for tag in found}

    @cached_property
    def _iam(self) -> Any:
        return iam_backends[ACCOUNT]["aws"]

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        # The hosts have two cores, so calls can wait for each other.
        with self._lock:
            return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        body = request.get_data()
        call = Call.of(request)
        refused = self._refused(call)
        if refused:
            kind, text = call.refusal(refused)
            self.answered.append(Answered(call, refused, 403))
            return Response(text, 403, content_type=kind)
        if call.image_parameter:
            body = urlencode({**call.parameters, "ImageId": _IMAGE}).encode()
        environ = request.environ
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        response = Response.from_app(self._moto, environ, buffered=True)
        self.answered.append(Answered(call, [], response.status_code))
        if call.service == "ec2":
            self.machines.follow(self.instances.values(), self.url)
        return response

    def _refused(self, call: Call) -> list[Need]:
        if call.by == ADMINISTRATOR:
            return []
        policies = self._policies(call.by)
        needs = call.needs(self.tags, self._role)
        return [need for need in needs if not need.granted_by(policies)]

    def _policies(self, name: str) -> list[dict[str, Any]]:
        """Policies of a role or a user."""
        roles = {role.name: role.policies for role in self._iam.roles.values()}
        owned = roles[name] if name in roles else self._iam.users[name].policies
        return [json.loads(policy) for policy in owned.values()]

    def _role(self, profile: str) -> str:
        (role,) = self._iam.get_instance_profile(profile).roles
        return str(role.name)


@contextmanager
def cloud(hosts: Hosts, laptop: Host) -> Iterator[Cloud]:
    """Serve AWS to the hosts and the laptop, from this machine's address on their network."""
    for backends in (ec2_backends, iam_backends, s3_backends):
        backends.reset()
    made = Cloud(hosts, laptop)
    server = make_server(hosts.gateway, 0, made, threaded=True, request_handler=_Quiet)
    made.url = f"http://{hosts.gateway}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
