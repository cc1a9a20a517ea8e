"""The preflight of an account, against moto: whatever AWS cannot provide is reported with its remedy."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, LoginRefreshRequired, NoCredentialsError

from aws import preflight as aws_preflight
from aws.ec2 import CANONICAL
from aws.preflight_rules import FAILED, OK, SKIPPED, Request, Row, judge_image, judge_quota, newest_image, table
from nodekit.errors import NodeError
from tests.aws.conftest import Account, ec2_error

REGION = "eu-central-1"
UBUNTU = "ami-0aaaaaaaaaaaaaaa2"


def rows(instance_type: str = "m8i.4xlarge", **request: Any) -> dict[str, Row]:
    """The table by item."""
    return {row.item: row for row in aws_preflight.preflight(Request(REGION, instance_type, **request))}


def run_instances(instance_type: str, count: int, **options: Any) -> None:
    """Have machines run in the account."""
    client = boto3.client("ec2", region_name=REGION)
    client.run_instances(ImageId=UBUNTU, MinCount=count, MaxCount=count, InstanceType=instance_type, **options)


def test_account_that_can_passes_every_line(account: Account) -> None:
    table_rows = rows(count=3, image=UBUNTU, zones=[f"{REGION}a"])
    assert {item: row.verdict for item, row in table_rows.items()} == {
        "type": OK, "architecture": OK, "virtualization": OK, "zones": OK, "image": OK, "quota": OK,
    }  # fmt: skip
    assert "nested-virtualization" in table_rows["virtualization"].finding
    assert "48 vCPUs asked for, 0 run, quota 10000" in table_rows["quota"].finding


def test_bare_metal_needs_no_feature(account: Account) -> None:
    assert rows("m5.metal")["virtualization"] == Row("virtualization", OK, "bare metal")


def test_type_without_the_feature_is_refused(account: Account) -> None:
    row = rows("m5.large")["virtualization"]
    assert row.verdict == FAILED and "does not list nested-virtualization" in row.finding and ".metal" in row.remedy


def test_arm_is_refused(account: Account) -> None:
    row = rows("m7g.metal")["architecture"]
    assert row.verdict == FAILED and row.finding == "arm64"


def test_type_that_does_not_exist_is_reported_and_nothing_is_counted(account: Account) -> None:
    table_rows = rows("m99.large")
    assert table_rows["type"].verdict == FAILED and f"{REGION} has no m99.large" in table_rows["type"].finding
    assert "quota" not in table_rows


def test_zone_without_the_type_is_refused_with_those_that_have_it(account: Account) -> None:
    row = rows("m5.metal", zones=[f"{REGION}z"])["zones"]
    assert row.verdict == FAILED and f"{REGION}z" in row.finding and f"{REGION}a" in row.finding


def test_subnets_must_be_there_and_in_their_network(account: Account) -> None:
    client = boto3.client("ec2", region_name=REGION)
    subnet = client.describe_subnets()["Subnets"][0]
    table_rows = rows(vpc=subnet["VpcId"], subnets=[subnet["SubnetId"]])
    assert table_rows["subnets"].verdict == OK and table_rows["zones"].finding == f"offered in {subnet['AvailabilityZone']}"
    assert "not in vpc-0" in rows(vpc="vpc-0", subnets=[subnet["SubnetId"]])["subnets"].finding
    assert rows(vpc="vpc-0", subnets=["subnet-0123456789abcdef0"])["subnets"].verdict == FAILED


def test_security_group_that_is_not_there_is_refused_before_keys_and_groups_are_made(account: Account) -> None:
    client = boto3.client("ec2", region_name=REGION)
    group = client.describe_security_groups()["SecurityGroups"][0]
    group_id, vpc = group["GroupId"], group["VpcId"]
    assert rows(vpc=vpc, security_groups=[group_id])["security groups"] == Row("security groups", OK, f"1 in {vpc}")
    row = rows(vpc=vpc, security_groups=[group_id, "sg-0123456789abcdef0"])["security groups"]
    assert row.verdict == FAILED and "sg-0123456789abcdef0" in row.finding
    # A group can be shared with other networks, which only another call would tell.
    assert rows(vpc="vpc-0", security_groups=[group_id])["security groups"].verdict == SKIPPED
    assert "security groups" not in rows(vpc=vpc)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("ami-0123456789abcdef0", "has no ami-0123456789abcdef0"),
        ("ami-0aaaaaaaaaaaaaaa3", "of account 666666666666, not 099720109477"),
        ("ami-0aaaaaaaaaaaaaaa4", "Architecture of ami-0aaaaaaaaaaaaaaa4"),
    ],
)
def test_image_that_is_not_the_one_meant_is_refused(account: Account, image: str, message: str) -> None:
    row = rows(image=image)["image"]
    assert row.verdict == FAILED and message in row.finding and "--newest-image" in row.remedy


def test_image_that_its_publisher_has_deleted_stops_no_change_of_machines_that_were_made_from_it(account: Account) -> None:
    """Canonical deletes old images: no `up` of a stack passed any more, and the remedy would have replaced every machine."""
    subnets = [subnet["SubnetId"] for subnet in boto3.client("ec2", region_name=REGION).describe_subnets()["Subnets"]][:2]
    vpc = boto3.client("ec2", region_name=REGION).describe_subnets(SubnetIds=subnets)["Subnets"][0]["VpcId"]
    own = [{"ResourceType": "instance", "Tags": [{"Key": "kata-nodes", "Value": "p/s"}]}]
    for subnet in subnets:
        run_instances("m8i.4xlarge", 1, SubnetId=subnet, TagSpecifications=own)
    account.refuse("DescribeImages", "InvalidAMIID.NotFound", 400)
    stack: dict[str, Any] = {"image": UBUNTU, "vpc": vpc, "subnets": subnets, "stack": "p/s", "count": 2}
    row = rows(**stack)["image"]
    assert row.verdict == SKIPPED and f"no longer has {UBUNTU}" in row.finding and "choose another image" in row.remedy
    assert rows(**{**stack, "count": 1, "subnets": subnets[:1]})["image"].verdict == SKIPPED
    others: list[dict[str, Any]] = [
        {"count": 3}, {"stack": "p/other"}, {"stack": None}, {"root_device": "/dev/sda1"}, {"subnets": subnets[:1]},
        {"image": "ami-0aaaaaaaaaaaaaaa4"}, {"instance_type": "m5.metal"},
    ]  # fmt: skip
    assert [rows(**{**stack, **other})["image"].verdict for other in others] == [FAILED] * len(others)


def test_root_volume_of_another_name_is_refused_since_it_would_stay_unencrypted(account: Account) -> None:
    row = rows(image=UBUNTU, root_device="/dev/xvda")["image"]
    assert row.verdict == FAILED and "/dev/sda1, not /dev/xvda" in row.finding and "rootDevice" in row.remedy
    assert rows(image=UBUNTU, root_device="/dev/sda1")["image"].verdict == OK


def test_root_volume_that_the_image_does_not_fit_in_is_refused(account: Account) -> None:
    """EC2 starts no such machine, which a group does not report: a run would wait for it until its time is over."""
    image = {
        "OwnerId": CANONICAL, "State": "available", "Architecture": "x86_64", "RootDeviceName": "/dev/sda1",
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}, {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 120}},
        ],
    }  # fmt: skip
    for size, verdict in ((100, FAILED), (120, OK), (None, OK)):
        row = judge_image(Request(REGION, "m8i.4xlarge", image=UBUNTU, root_volume_gib=size), {"Images": [image]})
        assert row.verdict == verdict
        assert verdict == OK or ("120 GiB" in row.finding and "rootVolumeGiB to 120" in row.remedy)
    assert rows(image=UBUNTU, root_volume_gib=16)["image"].verdict == OK


def test_quota_too_low_is_refused_with_what_to_ask_for(account: Account) -> None:
    account.quota(32)
    row = rows(count=3)["quota"]
    assert row.verdict == FAILED and "48 vCPUs asked for, 0 run, quota 32 (L-1216C47A" in row.finding
    assert f"--quota-code L-1216C47A --desired-value 48 --region {REGION}" in row.remedy


def test_what_runs_counts_and_this_stack_s_own_machines_do_not(account: Account) -> None:
    account.quota(100)
    run_instances("m5.metal", 1)
    row = rows(count=1)["quota"]
    assert row.verdict == FAILED and "16 vCPUs asked for, 96 run" in row.finding
    own = [{"ResourceType": "instance", "Tags": [{"Key": "kata-nodes", "Value": "p/s"}]}]
    account.quota(112)
    run_instances("m8i.4xlarge", 1, TagSpecifications=own)
    assert "16 vCPUs asked for, 96 run" in rows(stack="p/s")["quota"].finding
    assert rows(stack="p/s")["quota"].verdict == OK
    assert "16 vCPUs asked for, 112 run" in rows(stack="p/other")["quota"].finding


def test_machines_of_other_kinds_and_spot_are_counted_elsewhere() -> None:
    description = {"VCpuInfo": {"DefaultVCpus": 96}}
    types = {"InstanceTypes": [{"InstanceType": name, **description} for name in ("m5.metal", "x1.32xlarge")]}
    running = {
        "Reservations": [
            {"Instances": [{"InstanceType": "x1.32xlarge"}, {"InstanceType": "m5.metal", "InstanceLifecycle": "spot"}]}
        ]
    }
    row = judge_quota(Request(REGION, "m5.metal"), types, {"Quota": {"Value": 96.0}}, {}, running)
    assert row.verdict == OK and "96 vCPUs asked for, 0 run" in row.finding


def test_account_without_a_quota_of_its_own_has_the_default(account: Account) -> None:
    account.say("GetServiceQuota", (400, '{"__type": "NoSuchResourceException", "message": "none"}'))
    account.say("GetAWSDefaultServiceQuota", (200, '{"Quota": {"Value": 5.0}}'))
    row = rows()["quota"]
    assert row.verdict == FAILED and "quota 5 " in row.finding


def test_series_whose_quota_is_not_known_is_not_called_good(account: Account) -> None:
    assert rows("trn1.32xlarge")["quota"].verdict == SKIPPED


@pytest.mark.parametrize(
    ("operation", "item", "action"),
    [
        ("DescribeInstanceTypes", "type", "ec2:DescribeInstanceTypes"),
        ("DescribeInstanceTypeOfferings", "zones", "ec2:DescribeInstanceTypeOfferings"),
        ("DescribeImages", "image", "ec2:DescribeImages"),
        ("DescribeSubnets", "subnets", "ec2:DescribeSubnets"),
        ("DescribeSecurityGroups", "security groups", "ec2:DescribeSecurityGroups"),
        ("DescribeInstances", "quota", "ec2:DescribeInstances"),
    ],
)
def test_missing_permission_is_named_by_its_action(account: Account, operation: str, item: str, action: str) -> None:
    account.refuse(operation, "UnauthorizedOperation")
    row = rows(image=UBUNTU, vpc="vpc-1", subnets=["subnet-1"], security_groups=["sg-1"])[item]
    assert row.verdict == FAILED and row.remedy == f"Allow the IAM action {action}"


@pytest.mark.parametrize("operation", ["GetServiceQuota", "GetAWSDefaultServiceQuota"])
def test_missing_permission_on_quotas_is_named_by_its_action(account: Account, operation: str) -> None:
    account.say("GetServiceQuota", (400, '{"__type": "NoSuchResourceException", "message": "none"}'))
    account.say(operation, (400, '{"__type": "AccessDeniedException", "message": "no"}'))
    assert rows()["quota"].remedy == f"Allow the IAM action servicequotas:{operation}"


def test_throttling_is_waited_out(account: Account) -> None:
    busy = ec2_error("RequestLimitExceeded", 503)
    account.say("DescribeInstanceTypes", busy, busy, None)
    assert rows()["type"].verdict == OK
    assert account.calls.count("DescribeInstanceTypes") >= 3


def test_throttling_that_does_not_end_is_reported(account: Account) -> None:
    account.refuse("DescribeImages", "RequestLimitExceeded", 503)
    row = rows(image=UBUNTU)["image"]
    assert row.verdict == FAILED and "throttled ec2:DescribeImages" in row.finding and "Run again" in row.remedy
    assert account.calls.count("DescribeImages") == 6


def test_region_that_does_not_exist_is_reported_once(account: Account) -> None:
    account.say("DescribeInstanceTypes", EndpointConnectionError(endpoint_url="https://ec2.eu-nowhere-9.amazonaws.com/"))
    table_rows = rows()
    assert (
        list(table_rows) == ["type"]
        and "cannot be reached" in table_rows["type"].finding
        and "Correct the region" in table_rows["type"].remedy
    )


@pytest.mark.parametrize("code", ["AuthFailure", "OptInRequired", "RequestExpired"])
def test_region_that_refuses_the_credentials_is_reported_once(account: Account, code: str) -> None:
    account.refuse("DescribeInstanceTypes", code, 401)
    table_rows = rows()
    assert (
        list(table_rows) == ["type"] and code in table_rows["type"].finding and "enable eu-central-1" in table_rows["type"].remedy
    )


@pytest.mark.parametrize("code", ["AuthFailure", "RequestExpired", "SignatureDoesNotMatch"])
def test_credentials_that_are_refused_because_of_a_wrong_clock_are_not_only_to_be_renewed(account: Account, code: str) -> None:
    """AWS refuses a request that was signed more than five minutes ago, by its own clock."""
    account.refuse("DescribeInstanceTypes", code, 401)
    assert "clock" in rows()["type"].remedy


def test_missing_credentials_are_reported_and_not_raised(account: Account) -> None:
    account.say("DescribeInstanceTypes", NoCredentialsError())
    table_rows = rows()
    assert list(table_rows) == ["type"] and "no AWS credentials can be used here" in table_rows["type"].finding
    assert "AWS_PROFILE" in table_rows["type"].remedy


def test_newest_image_is_canonical_s_even_if_others_took_its_name(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert aws_preflight.main(["--newest-image", "--region", REGION]) == 0
    assert capsys.readouterr().out == f"{UBUNTU}\n"
    others = [
        {"ImageId": "ami-1", "OwnerId": "666666666666", "Architecture": "x86_64", "CreationDate": "2026-12-01"},
        {"ImageId": "ami-2", "OwnerId": "099720109477", "Architecture": "arm64", "CreationDate": "2026-12-01"},
    ]
    ours = {"ImageId": "ami-3", "OwnerId": "099720109477", "Architecture": "x86_64", "CreationDate": "2026-11-01"}
    assert newest_image({"Images": [*others, ours]}) == ours and newest_image({"Images": others}) is None


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "", "two", "٣", "1000000"])
def test_number_of_machines_that_would_fit_into_every_quota_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        aws_preflight.main(["--region", REGION, "--instance-type", "m8i.xlarge", f"--count={count}"])
    assert "argument --count: use a whole number from 1 to 999999" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--region", "--instance-type", "--zone", "--image", "--image-owner"])
def test_option_of_a_variable_that_is_not_set_is_refused_and_not_passed_over(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --image "" the image was not looked at, and the table had no line that failed."""
    with pytest.raises(SystemExit):
        aws_preflight.main(["--region", REGION, "--instance-type", "m8i.xlarge", option, ""])
    assert f"argument {option}: it is empty" in capsys.readouterr().err


def test_command_prints_one_table_and_fails_when_a_line_does(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--region", REGION, "--instance-type", "m8i.4xlarge", "--image", UBUNTU, "--zone", f"{REGION}a"]
    assert aws_preflight.main([*argv, "--count", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    account.quota(16)
    assert aws_preflight.main([*argv, "--count", "2"]) == 1
    assert "request-service-quota-increase" in capsys.readouterr().out


def test_answer_of_an_api_cannot_act_on_a_terminal(account: Account) -> None:
    for text in ("<html>\x1b[2J" + "x" * 999, ec2_error("Odd", 400)[1].replace("said by EC2", "&#x202e;" + "x" * 999)):
        account.say("DescribeImages", (400, text))
        row = rows(image=UBUNTU)["image"]
        assert row.verdict == FAILED and len(row.finding) < 300
        assert "\x1b" not in table([row]) and "\u202e" not in table([row])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"The config profile \(nonesuch\) could not be found"),
        ("[default\nx", "Unable to parse config file"),
        ("[profile nonesuch]\ncredential_process = /bin/false\n", "Error when retrieving credentials from custom-process"),
        ("[profile nonesuch]\ncredential_process = /nonesuch/tool\n", "No such file or directory: '/nonesuch/tool'"),
        ("[profile nonesuch]\ncredential_process = /bin/echo text\n", "Expecting value"),
    ],
)
def test_settings_that_name_what_is_not_there_are_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(key, raising=False)
    (tmp_path / "config").write_text(text or "")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    with pytest.raises(NodeError, match=words) as caught:
        aws_preflight.has_credentials()
    assert caught.value.code == "aws-preflight-failed" and "correct AWS_PROFILE" in caught.value.remedy
    if text is None:
        assert aws_preflight.main(["--region", REGION, "--newest-image"]) == 1
        assert "error: The AWS settings of this machine cannot be used" in capsys.readouterr().err


ROLE = """[profile nonesuch]
role_arn = arn:aws:iam::123456789012:role/deploy
{login}
[profile base]
aws_access_key_id = test
aws_secret_access_key = test
"""


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ("web_identity_token_file = /nonesuch/token", "No such file or directory: '/nonesuch/token'"),
        ("source_profile = base\nmfa_serial = arn:aws:iam::123456789012:mfa/me", "nobody can be asked here; before this, run:"),
    ],
)
def test_a_role_that_cannot_be_assumed_is_told_as_that_and_asks_nobody(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, login: str, words: str
) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(key, raising=False)
    (tmp_path / "config").write_text(ROLE.format(login=login))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    table_rows = rows()
    assert list(table_rows) == ["type"] and words in table_rows["type"].finding
    assert "no AWS credentials can be used here" in table_rows["type"].finding and "Log in" in table_rows["type"].remedy


def test_a_role_that_one_may_not_assume_is_no_missing_permission_of_the_call(account: Account) -> None:
    refusal: Any = {"Error": {"Code": "AccessDenied", "Message": "not for you"}}
    account.say("DescribeInstanceTypes", ClientError(refusal, "AssumeRole"))
    table_rows = rows()
    assert list(table_rows) == ["type"] and "AssumeRole: AccessDenied: not for you" in table_rows["type"].finding
    assert "Log in" in table_rows["type"].remedy


def test_a_session_of_aws_login_that_has_ended_is_no_wrong_region(account: Account) -> None:
    account.say("DescribeInstanceTypes", LoginRefreshRequired())
    table_rows = rows()
    assert list(table_rows) == ["type"] and "Please reauthenticate using 'aws login'" in table_rows["type"].finding
    assert "no AWS credentials can be used here" in table_rows["type"].finding and "Log in" in table_rows["type"].remedy


def test_a_session_of_aws_login_that_only_the_aws_command_can_use_has_a_remedy_that_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("botocore.credentials.EC", None)  # botocore without awscrt, as `pulumi install` brings it
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(key, raising=False)
    (tmp_path / "config").write_text("[profile nonesuch]\nlogin_session = arn:aws:iam::123456789012:user/me\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "nonesuch")
    with pytest.raises(NodeError, match="`aws login`") as caught:
        aws_preflight.has_credentials()
    assert caught.value.code == "aws-preflight-failed" and "aws configure export-credentials" in caught.value.remedy


def test_an_endpoint_that_is_no_address_is_refused_in_a_line(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    with pytest.raises(NodeError, match="cannot be used: Invalid endpoint: localhost:4566"):
        rows()


def test_help_teaches() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "aws.preflight", "--help"], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    for word in ("--newest-image", "bare metal", "exit 1", "Example", "AWS_PROFILE"):
        assert word in " ".join(result.stdout.split())
