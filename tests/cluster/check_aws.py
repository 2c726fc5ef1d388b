"""`ray up`, a study, `ray down` and a second `ray up` on AWS, which moto emulates: what was called,
with whose rights, and that nothing left this machine.

    python -m pytest tests/cluster/check_aws.py

By hand, since it takes minutes. The tests share the cluster and run in the order of
this file.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.cluster.calls import Call
from tests.cluster.cloud import ADMINISTRATOR, REGION
from tests.cluster.derived import ROOT, real
from tests.cluster.machines import sent_nowhere, unroutable
from tests.cluster.on_aws import USER, OnAws, on_aws
from tests.support.waiting import wait

pytestmark = pytest.mark.cluster

HEAD, WORKER = "iresnet-head", "iresnet-worker"
POLICIES = {USER: "user", HEAD: "head", WORKER: "worker"}
# Who calls -> what they call.
CALLS = {
    USER: {
        "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateKeyPair", "ec2:CreateSecurityGroup",
        "ec2:CreateTags", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances",
        "ec2:DescribeKeyPairs", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets",
        "ec2:RunInstances", "ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances",
    },
    HEAD: {
        "ec2:CreateTags", "ec2:DescribeInstances", "ec2:RunInstances",
        "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject",
    },
    WORKER: {"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"},
}  # fmt: skip
# Granted, and not called by name, or not each time.
UNCALLED = {
    # What RunInstances needs beside itself.
    USER: {"iam:PassRole", "ssm:GetParameters"},
    HEAD: {
        "iam:PassRole", "ssm:GetParameters",
        # An idle worker is given back, one on demand by being stopped.
        "ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances",
        # A large file that fails in the middle.
        "s3:AbortMultipartUpload",
    },
    WORKER: {"s3:AbortMultipartUpload"},
}  # fmt: skip
# Arrow asks for it to see that AWS answers, and expects a refusal.
NOBODYS = "arn:aws:s3:::$extremelyunlikelytoexist$"

STUDY = (
    "cd ~/iresnet-study && . ~/.iresnet-study/environment && "
    "python -m study.launch digits --trials 1 --epochs 1 --gpus 0"
)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnAws]:
    with on_aws(tmp_path_factory.mktemp("aws")) as made:
        yield made


def _calls(aws: OnAws, name: str) -> list[Call]:
    return [a.call for a in aws.cloud.answered if a.call.name == name and a.status == 200]


def _states(aws: OnAws) -> dict[str, str]:
    """Kind of node -> state of its instance, of one each."""
    instances = aws.cloud.instances
    found = {aws.cloud.tags(name)["ray-node-type"]: it.state for name, it in instances.items()}
    assert len(found) == len(instances)
    return found


def _runs_ray(aws: OnAws) -> set[str]:
    """Names of the hosts on which Ray runs."""
    lines = {host.name: host.processes().values() for host in aws.hosts.all}
    return {name for name, all_ in lines.items() if any("raylet/raylet" in line for line in all_)}


def test_the_commands_of_the_page_are_accepted(aws: OnAws) -> None:
    made = [answered for answered in aws.cloud.answered if answered.call.by == ADMINISTRATOR]
    assert len(made) == 12
    assert {answered.status for answered in made} == {200}


def test_ray_up_launches_the_head_and_starts_ray_on_it(aws: OnAws) -> None:
    assert "New status" in aws.run("ray", "up", "-y", str(aws.config))
    assert _runs_ray(aws) == {"head"}
    (launch,) = _calls(aws, "ec2:RunInstances")
    assert launch.by == USER
    assert launch.image_parameter is not None
    assert launch.parameters["IamInstanceProfile.Name"] == HEAD
    assert "InstanceMarketOptions.MarketType" not in launch.parameters
    (opened,) = _calls(aws, "ec2:AuthorizeSecurityGroupIngress")
    ranges = [v for key, v in opened.parameters.items() if key.endswith((".FromPort", ".CidrIp"))]
    assert sorted(ranges) == ["-1", "0.0.0.0/0", "22"]


def test_a_study_gets_a_worker_from_the_spot_market_and_the_bucket_its_state(aws: OnAws) -> None:
    aws.run("ray", "exec", str(aws.config), STUDY)
    assert _runs_ray(aws) == {"head", "w1"}
    launch = _calls(aws, "ec2:RunInstances")[-1]
    assert launch.by == HEAD
    assert launch.parameters["InstanceMarketOptions.MarketType"] == "spot"
    assert launch.parameters["IamInstanceProfile.Name"] == WORKER
    stored = {call.path.split("/")[3] for call in _calls(aws, "s3:PutObject")}
    # Arrow stores an empty object for a folder.
    assert stored - {""} == {"studies", "artifacts"}


def test_a_trial_whose_worker_dies_goes_on_from_its_checkpoint_in_the_bucket(aws: OnAws) -> None:
    """On the node of the study before, which tries the storage this time."""

    def keys(name: str) -> list[str]:
        made = [call for call in _calls(aws, name) if call.by == WORKER]
        return [call.path for call in made if "/again/" in call.path]

    again = STUDY.replace("--epochs 1", "--epochs 40 --name again")
    with ThreadPoolExecutor() as pool:
        study = pool.submit(aws.run, "ray", "exec", str(aws.config), again)
        wait(lambda: any("/state." in key for key in keys("s3:PutObject")), 200, "no checkpoint")
        # Ray changes its command line with each call.
        wait(lambda: aws.hosts.w1.kill("ray::", "Trainable"), 20, "no trial runs")
        study.result()
    assert any("/state." in key for key in keys("s3:GetObject"))


def test_the_report_reaches_the_laptop_by_a_tunnel(aws: OnAws) -> None:
    """By the commands of the page; the laptop has no right to the bucket."""
    page = (ROOT / ".cluster" / "README.md").read_text()
    (block,) = re.findall(r"<!-- report-commands -->\n```\n(.*?)```", page, re.DOTALL)
    html = aws.home / "report.html"
    shown = (
        block.replace("cluster.yaml", str(aws.config))
        .replace("study.report mnist", "study.report digits")
        .replace("report.html", str(html))
    )
    tunnel = f"ray exec {aws.config} -p 5000 'sleep infinity' > {aws.home}/tunnel.log 2>&1 & "
    opens = "until echo > /dev/tcp/127.0.0.1/5000; do sleep 0.2; done 2> /dev/null"
    aws.run("bash", "-euc", f"{tunnel}trap 'kill %1' EXIT; {opens}\n{shown}")
    assert "digits/0000" in html.read_text()


def test_ray_down_stops_the_head_and_terminates_the_worker(aws: OnAws) -> None:
    assert _states(aws) == {"head": "running", "worker": "running"}
    aws.run("ray", "down", "-y", str(aws.config))
    assert _states(aws) == {"head": "stopped", "worker": "terminated"}
    assert _runs_ray(aws) == set()


def test_a_second_ray_up_starts_the_same_head(aws: OnAws) -> None:
    before = set(aws.cloud.instances)
    aws.run("ray", "up", "-y", str(aws.config))
    assert set(aws.cloud.instances) == before
    assert _states(aws) == {"head": "running", "worker": "terminated"}
    assert _runs_ray(aws) == {"head"}


def test_each_call_was_granted_and_each_right_is_needed(aws: OnAws) -> None:
    called: dict[str, set[str]] = defaultdict(set)
    refused = []
    for answered in aws.cloud.answered:
        called[answered.call.by].add(answered.call.name)
        refused += [need for need in answered.refused if need.resource != NOBODYS]
    assert refused == []
    del called[ADMINISTRATOR]
    for who, policy in POLICIES.items():
        assert CALLS[who] <= called.pop(who) <= CALLS[who] | UNCALLED[who]
        granted = set[str]()
        text = (ROOT / ".cluster" / f"{policy}-policy.json").read_text()
        for statement in json.loads(text)["Statement"]:
            actions = statement["Action"]
            granted.update([actions] if isinstance(actions, str) else actions)
        assert granted == CALLS[who] | UNCALLED[who]
    assert not called


def test_what_the_policies_do_not_grant_is_refused(aws: OnAws) -> None:
    def client(service: str, by: str, region: str = REGION) -> Any:
        session = boto3.Session(by, "testing", region_name=region)
        return session.client(service, endpoint_url=aws.cloud.url)

    (head,) = (each.id for each in aws.cloud.instances.values() if each.state == "running")
    storage = re.search(r"s3://([^/]+)/(\S+)", aws.config.read_text())
    assert storage is not None
    bucket, root = storage.groups()
    # A worker of another cluster.
    kind = real()["metadata"]["worker_type"]
    image = {"ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1, "InstanceType": kind}
    worker = {**image, "IamInstanceProfile": {"Name": WORKER}}
    other = client("ec2", ADMINISTRATOR).run_instances(**worker)["Instances"][0]["InstanceId"]
    ours = {"Key": "ray-cluster-name", "Value": aws.name}
    theirs = [{"ResourceType": "instance", "Tags": [{**ours, "Value": "another"}]}]
    like_the_head = {**image, "IamInstanceProfile": {"Name": HEAD}}
    of_ours = [{"ResourceType": "instance", "Tags": [ours]}]
    refusals: tuple[Callable[[], object], ...] = (
        lambda: client("ec2", HEAD).terminate_instances(InstanceIds=[other]),
        lambda: client("ec2", HEAD).create_tags(Resources=[other], Tags=[ours]),
        lambda: client("ec2", HEAD).run_instances(**worker, TagSpecifications=theirs),
        lambda: client("ec2", HEAD).run_instances(**like_the_head, TagSpecifications=of_ours),
        lambda: client("ec2", HEAD).run_instances(
            **{**worker, "InstanceType": "p5.48xlarge"}, TagSpecifications=of_ours
        ),
        lambda: client("ec2", HEAD, "eu-west-1").run_instances(**worker, TagSpecifications=of_ours),
        lambda: client("ec2", WORKER).describe_instances(),
        lambda: client("ec2", WORKER).terminate_instances(InstanceIds=[head]),
        lambda: client("s3", WORKER).list_buckets(),
        lambda: client("s3", WORKER).get_object(Bucket="another", Key="x"),
        lambda: client("s3", HEAD).put_object(Bucket=bucket, Key="elsewhere", Body=b""),
        lambda: client("s3", WORKER).get_object(Bucket=bucket, Key=f"{root}/artifacts/x"),
        # What a driver unpickles.
        *(
            lambda name=name: client("s3", WORKER).put_object(  # type: ignore[misc]
                Bucket=bucket, Key=f"{root}/studies/{name}", Body=b""
            )
            for name in ("digits/tuner.pkl", "digits/snapshots/0.zip", "digits/0000_a/error.pkl")
        ),
        lambda: client("s3", WORKER).delete_object(
            Bucket=bucket, Key=f"{root}/studies/digits/tuner.pkl"
        ),
    )
    for refused in refusals:
        with pytest.raises(ClientError, match=r"UnauthorizedOperation|AccessDenied"):
            refused()
    client("ec2", ADMINISTRATOR).terminate_instances(InstanceIds=[other])


def test_nothing_was_sent_to_elsewhere(aws: OnAws) -> None:
    """The laptop has routes to the hosts' network and to addresses of instances alone, and has
    tried no other; nor have the hosts, which send such packets to where they are counted."""
    routes = {route["dst"] for route in json.loads(aws.laptop.ip("-json", "route"))}
    assert routes == {f"{aws.hosts.network}.0/24", *aws.cloud.machines.addresses}
    assert unroutable(aws.laptop) == 0
    assert {host.name: sent_nowhere(host) for host in aws.hosts.all} == {
        "head": 0, "w1": 0, "w2": 0
    }  # fmt: skip
