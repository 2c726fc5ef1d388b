"""Probe open ports without a token: `python -m tests.cluster.outsider ADDRESS PORT...` prints JSON,
port -> what it gave away, and the calls for which it asked for a token."""

import http.client
import json
import sys

import grpc

# At least one call of each Ray service, all of which need the token. Calls that a port does not
# serve are refused as well. Ray's health checks are public, and only tell that it runs.
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.RayletDriver/KVList",
)
_PATHS = ("/", "/api/version", "/api/jobs/", "/api/job_agent/jobs/", "/logs", "/metrics")
# Metrics in Prometheus's format.
_COUNTERS = "# HELP"
_TIMEOUT_SECONDS = 5


def look(address: str, port: int) -> dict[str, list[str]]:
    """What a port answers without a token: "given", paths and calls, with "counters" for metrics;
    "refused", calls that need a token."""
    given, refused = [], []
    for path in _PATHS:
        connection = http.client.HTTPConnection(address, port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            break  # it speaks another protocol
        finally:
            connection.close()
        if answer.status < 400:
            given.append("counters" if text.startswith(_COUNTERS) else path)
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        for call in CALLS:
            try:
                channel.unary_unary(call)(b"", timeout=_TIMEOUT_SECONDS)
                given.append(call)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    break  # it speaks another protocol
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    refused.append(call)
    return {"given": sorted(set(given)), "refused": refused}


if __name__ == "__main__":
    at = sys.argv[1]
    print(json.dumps({port: look(at, int(port)) for port in sys.argv[2:]}))
