"""The verdict on a ladder's transcript: it never passes falsely, and shows the right cause and no harmful text."""

import pytest

from nodekit.errors import CATALOGUE
from nodekit.rules.proof.ladder import COMMANDS, PLACES, REQUIRED, Verdict, judge, readings
from nodekit.rules.proof.sandboxes import SANDBOXES

NONCE = "00112233445566778899aabbccddeeff"
NODE = "11111111-2222-3333-4444-555555555555"
GUEST = "99999999-8888-7777-6666-555555555555"
SEED = "user_namespace.enable=1"
LATER = "user-namespace.enable=0"
CHILD = "proof-user-namespaces-child-namespace"
FINE = {
    "boot-id": ("ok", GUEST, ""),
    "kernel": ("ok", "6.12.9", ""),
    "command-line": ("ok", f"quiet%20{SEED}%20console=ttyS0", ""),
    "user-namespaces": ("ok", "7563", ""),
    "uid": ("ok", "0", ""),
    "proc-masks": ("ok", "", ""),
    "entry": ("absent", "", "the%20ladder%20runs%20without%20the%20entry"),
    **{command.name: ("ok", "0", "") for command in COMMANDS},
    "sandbox-runtime": ("absent", "", "srt%20is%20not%20installed%20here"),
    "sandbox-runtime-proxy": ("absent", "", "srt%20is%20not%20installed%20here"),
    "fuse": ("absent", "", "x"),
    "subordinate-ids": ("absent", "", "x"),
}
MASKED = "bwrap:%20Can't%20mount%20proc%20on%20/newroot/proc:%20Operation%20not%20permitted"
ENOSPC = "unshare:%20unshare(0x10000000):%20No%20space%20left%20on%20device"
NO_PERMISSIONS = (
    "bwrap:%20No%20permissions%20to%20create%20new%20namespace,%20likely%20because%20the%20kernel%20does%20not%20allow"
    "%20non-privileged%20user%20namespaces.%20See%20<https://deb.li/bubblewrap>"
)
NO_SUPPORT = (
    "bwrap:%20Creating%20new%20namespace%20failed,%20likely%20because%20the%20kernel%20does%20not%20support"
    "%20user%20namespaces.%20%20bwrap%20must%20be%20installed%20setuid%20on%20such%20systems."
)
"""Bubblewrap's words for EPERM and EINVAL of clone(2)."""


def transcript(**changes: tuple[str, str, str]) -> str:
    """A transcript with some readings changed; `_` in a name stands for `-`."""
    lines = FINE | {name.replace("_", "-"): reading for name, reading in changes.items()}
    text = [f"{NONCE} rung={n} status={s} value={v} detail={d}\r" for n, (s, v, d) in lines.items()]
    return "\n".join(["[    0.1] noise of a kernel", *text, f"{NONCE} end\r"]) + "\n"


def test_a_working_guest_passes_with_its_readings() -> None:
    verdict = judge(transcript(), NONCE, NODE, [SEED])
    assert verdict.passed
    assert (verdict.user_namespaces, verdict.guest_kernel) == (7563, "6.12.9")
    assert verdict.command_line == f"quiet {SEED} console=ttyS0"
    commands = [command.name for command in COMMANDS]
    assert [rung.name for rung in verdict.rungs] == ["boot-id", "command-line", "entry", "user-namespaces", *commands]
    assert verdict.boot_id == GUEST


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"boot_id": ("ok", NODE, "")}, "proof-not-a-guest", "the node's own"),
        ({"boot_id": ("ok", "", "")}, "proof-not-a-guest", "no boot id could be read"),
        ({"boot_id": ("absent", "", "")}, "proof-not-a-guest", "no boot id could be read"),
        ({"command_line": ("ok", "quiet", "")}, "proof-parameters-missing", f"lacks {SEED}"),
        ({"command_line": ("ok", f"{SEED}0", "")}, "proof-parameters-missing", f"lacks {SEED}"),
        ({"command_line": ("ok", f"{SEED}%20quiet%20{LATER}", "")}, "proof-parameters-missing", f"has {LATER} after {SEED}, and"),
        ({"user_namespaces": ("ok", "0", "")}, "proof-user-namespaces-zero", "read '0'"),
        (
            {"user_namespaces": ("absent", "", "x"), "unshare": ("fail", "1", "x")},
            "proof-user-namespaces-absent",
            "CONFIG_USER_NS=n",
        ),
        ({"user_namespaces": ("absent", "", "x")}, "proof-user-namespaces-absent", "something lies over /proc/sys/user"),
        (
            {"user_namespaces": ("absent", "", "x"), "kernel": ("ok", "4.4.302-kata", "")},
            "proof-user-namespaces-absent",
            "older than 4.9",
        ),
        ({"user_namespaces": ("fail", "", "Permission%20denied")}, "proof-user-namespaces-unreadable", "Permission denied"),
        ({"user_namespaces": ("ok", "many", "")}, "proof-user-namespaces-not-a-number", "read 'many'"),
        ({"user_namespaces": ("ok", "", "")}, "proof-user-namespaces-not-a-number", "read ''"),
        ({"user_namespaces": ("ok", "-1", "")}, "proof-user-namespaces-not-a-number", "read '-1'"),
        ({"user_namespaces": ("ok", "2147483647", "")}, "proof-user-namespaces-child-namespace", "child user namespace"),
        ({"entry": ("fail", "", "mount:%20not%20found")}, "proof-entry-failed", "could not mount a proc"),
        ({"unshare": ("fail", "1", ENOSPC)}, "proof-unshare-failed", "No space left on device"),
        ({"unshare": ("absent", "", "unshare%20is%20not%20installed%20here")}, "proof-tool-missing", "was not tried"),
        ({"unshare_map_root": ("fail", "1", "Operation%20not%20permitted")}, "proof-unshare-failed", "the guest forbids it"),
        ({"unshare_nested": ("fail", "1", ENOSPC)}, "proof-nested-failed", "nesting"),
        ({"bwrap_proc": ("fail", "1", "bwrap:%20Operation%20not%20permitted")}, "proof-bwrap-failed", "capability"),
        ({"bwrap_user_proc": ("fail", "1", MASKED)}, "proof-bwrap-failed", "paths below /proc are masked"),
        ({"bwrap_ordinary": ("fail", "1", MASKED)}, "proof-bwrap-failed", "paths below /proc are masked"),
        (
            {"srt_call": ("fail", "1", "unshare:%20write%20failed%20/proc/self/uid_map:%20Operation%20not%20permitted")},
            "proof-srt-failed",
            "bubblewrap emptied the bounding set",
        ),
        (
            {"srt_call": ("fail", "1", "bwrap:%20setting%20up%20uid%20map:%20Operation%20not%20permitted")},
            "proof-srt-failed",
            "CAP_SETFCAP is not in the bounding set",
        ),
        ({"srt_call_ordinary": ("absent", "", "bwrap%20is%20not%20installed%20here")}, "proof-tool-missing", "bwrap is not"),
        ({"sandbox_runtime": ("fail", "1", "boom")}, "proof-srt-failed", "boom"),
        ({"srt_call": ("fail", "143", "Terminated")}, "proof-srt-failed", "did not end in the time"),
        ({"srt_call": ("fail", "124", "")}, "proof-srt-failed", "did not end in the time"),
        (
            {
                "sandbox_runtime": (
                    "fail",
                    "1",
                    "Error:%20Sandbox%20dependencies%20not%20available:%20ripgrep%20(rg)%20not%20found",
                )
            },
            "proof-srt-failed",
            "`which` one second",
        ),
        (
            {"sandbox_runtime_proxy": ("fail", "1", "Failed%20to%20create%20bridge%20sockets%20after%205%20attempts")},
            "proof-srt-failed",
            "`which` one second",
        ),
        ({"bwrap_user": ("fail", "1", "bwrap:%20(ENOSPC)")}, "proof-bwrap-failed", "limit"),
        ({"bwrap_user": ("fail", "1", NO_PERMISSIONS)}, "proof-bwrap-failed", "the guest forbids it"),
        ({"bwrap_user": ("fail", "1", NO_SUPPORT[:120])}, "proof-bwrap-failed", "lacks this kind of namespace"),
        ({"loopback": ("fail", "2", "RTNETLINK%20answers:%20Operation%20not%20permitted")}, "proof-loopback-failed", "RTNETLINK"),
    ],
)
def test_each_failing_rung_has_its_own_code_cause_and_remedy(
    changes: dict[str, tuple[str, str, str]], code: str, words: str
) -> None:
    verdict = judge(transcript(**changes), NONCE, NODE, [SEED])
    assert verdict.code == code and code in CATALOGUE
    assert words in verdict.message
    assert verdict.message.startswith(f"rung {next(iter(changes)).replace('_', '-')} (")
    assert verdict.remedy and "\n" not in verdict.message


UID_MAP = "unshare:%20write%20failed%20/proc/self/uid_map:%20Operation%20not%20permitted"


@pytest.mark.parametrize(
    ("uid", "rung", "detail"),
    [
        ("0", "bwrap_ordinary", "bwrap:%20setting%20up%20uid%20map:%20Permission%20denied"),  # AppArmor of Ubuntu 24.04
        ("0", "bwrap_ordinary", NO_PERMISSIONS),
        ("1000", "bwrap_user", NO_PERMISSIONS[:120]),  # as much as a pod's report has of it
        ("0", "srt_call_ordinary", UID_MAP),
        ("1000", "unshare_map_root", UID_MAP),
        ("1000", "srt_call", UID_MAP),
        ("1000", "unshare", "unshare:%20unshare(0x10000000):%20Operation%20not%20permitted"),  # seccomp, or Debian's sysctl
    ],
)
def test_what_is_forbidden_to_an_ordinary_user_is_not_cured_by_capabilities(uid: str, rung: str, detail: str) -> None:
    verdict = judge(transcript(uid=("ok", uid, ""), **{rung: ("fail", "1", detail)}), NONCE, NODE, [SEED])
    assert "ordinary user" in verdict.message and "security module" in verdict.message
    assert "apparmor_restrict_unprivileged_userns" in verdict.remedy
    assert not any(word in verdict.message + verdict.remedy for word in ("NET_ADMIN", "SETFCAP", "bounding set"))


def test_a_limit_that_is_too_low_is_not_called_zero() -> None:
    low = transcript(user_namespaces=("ok", "1", ""), unshare_nested=("fail", "1", ENOSPC))
    other = transcript(loopback=("fail", "1", ENOSPC))  # sysctl.user.max_net_namespaces=0
    for text in (low, other):
        verdict = judge(text, NONCE, NODE, [SEED])
        assert "max_user_namespaces=0" not in verdict.remedy and "N above 0" not in verdict.remedy
        assert "sysctl.user.max_user_namespaces=N" in verdict.remedy and "sysctl.user.max_net_namespaces" in verdict.remedy


@pytest.mark.parametrize(
    ("sandbox", "rung", "detail"),
    [
        ("rootless", "rootless_runc", "cp:%20error%20writing%20'/tmp/kata-nodes-n/x':%20No%20space%20left%20on%20device"),
        ("rootless", "rootless_runc", "mkdir:%20can't%20create%20directory%20'/tmp/n':%20No%20space%20left%20on%20device"),
        ("sandbox-runtime", "sandbox_runtime_proxy", "Error:%20ENOSPC:%20no%20space%20left%20on%20device,%20mkdtemp%20'/tmp/k'"),
    ],
)
def test_a_full_tmp_is_not_taken_for_a_limit_of_namespaces(sandbox: str, rung: str, detail: str) -> None:
    verdict = judge(transcript(**{rung: ("fail", "1", detail)}), NONCE, NODE, [SEED], sandbox=sandbox)
    assert "/tmp" in verdict.remedy and "namespaces" not in verdict.remedy


def test_an_entry_that_fails_hides_no_runtime_that_is_no_guest() -> None:
    text = transcript(boot_id=("ok", NODE, ""), entry=("fail", "", "Permission%20denied"))
    assert judge(text, NONCE, NODE, [SEED]).code == "proof-not-a-guest"


def test_the_first_failing_rung_decides() -> None:
    verdict = judge(transcript(user_namespaces=("ok", "0", ""), unshare=("fail", "1", ENOSPC)), NONCE, NODE, [SEED])
    assert verdict.code == "proof-user-namespaces-zero"
    assert {rung.name: rung.passed for rung in verdict.rungs}["unshare"] is False


@pytest.mark.parametrize(
    ("token", "reading", "code"),
    [
        ("sysctl.user.max_user_namespaces=20000", "20000", None),
        ("sysctl/user/max_user_namespaces=0x4e20", "20000", None),
        ("sysctl.user.max_user_namespaces=20000", "7563", "proof-parameters-missing"),
        ("sysctl.user.max_user_namespaces=20000", "0", "proof-user-namespaces-zero"),
        ("sysctl.user.max_user_namespaces=20k", "7563", None),  # a preview says that the kernel ignores it
    ],
)
def test_a_limit_that_the_stack_sets_is_the_one_that_the_guest_has(token: str, reading: str, code: str | None) -> None:
    """A kernel before 5.8 knows no parameter of a sysctl, and passes it over."""
    text = transcript(command_line=("ok", token, ""), user_namespaces=("ok", reading, ""))
    verdict = judge(text, NONCE, NODE, [token])
    assert verdict.code == code
    assert code != "proof-parameters-missing" or ("older than 5.8" in verdict.message and "sysctl.d" in verdict.remedy)
    assert judge(text, NONCE, NODE, []).code in (None, "proof-user-namespaces-zero"), "of a parameter that nobody expects"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("sysctl.user.max_user_namespaces=0", "sysctl.user.max_user_namespaces=0 on the guest's command line"),
        (
            "sysctl.user.max_user_namespaces=9%20sysctl/user/max_user_namespaces=0",
            "sysctl/user/max_user_namespaces=0 on the guest's",
        ),
        ("quiet", "a hardening default"),
        ("quiet%20--%20sysctl.user.max_user_namespaces=0", "a hardening default"),
        ("sysctl.user.max_user_namespaces=5000", "a program of the guest set it to 0 after that"),
        # The kernel ignores what is no number.
        ("sysctl.user.max_user_namespaces=0%20sysctl.user.max_user_namespaces=5k", "sysctl.user.max_user_namespaces=0 on the"),
        ("sysctl.user.max_user_namespaces=5k", "a hardening default of the guest sets it: sysctl.user.max_user_namespaces=5k on"),
    ],
)
def test_a_limit_of_zero_names_who_set_it_and_the_config_key(line: str, cause: str) -> None:
    verdict = judge(transcript(command_line=("ok", line, ""), user_namespaces=("ok", "0", "")), NONCE, NODE, [])
    assert cause in verdict.message
    assert "kata.kernelParams" in verdict.remedy


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("sysctl.user.max_user_namespaces=2147483647", None),
        ("sysctl.user.max_user_namespaces=0%20sysctl/user/max_user_namespaces=2147483647", None),
        ("sysctl.user.max_user_namespaces=2147483647%20sysctl.user.max_user_namespaces=100", CHILD),
        ("sysctl.user.max_user_namespaces=0x7fffffff", None),
        ("sysctl.user.max_user_namespaces=2147483648", CHILD),
        ("quiet", CHILD),
    ],
)
def test_the_highest_limit_is_a_child_namespace_unless_the_guest_was_given_it(line: str, code: str | None) -> None:
    text = transcript(command_line=("ok", line, ""), user_namespaces=("ok", "2147483647", ""))
    assert judge(text, NONCE, NODE, []).code == code


def counted(verdict: Verdict) -> set[str]:
    """Names of the commands' rungs that count."""
    return {rung.name for rung in verdict.rungs if rung.counts and rung.name in {command.name for command in COMMANDS}}


BASE = {"unshare", "unshare-map-root", "unshare-nested", "loopback"}
BWRAP = {"bwrap-proc", "bwrap-user", "bwrap-user-proc"}
SRT = {"sandbox-runtime", "sandbox-runtime-proxy"}


@pytest.mark.parametrize(
    ("sandbox", "uid", "masks", "names"),
    [
        ("sandbox-runtime", "0", "", BASE | BWRAP | {"bwrap-ordinary", "srt-call", "srt-call-ordinary"} | SRT),
        (
            "sandbox-runtime",
            "0",
            "/proc/bus",
            BASE | BWRAP | {"bwrap-ordinary", "srt-call", "srt-call-ordinary"} | SRT,
        ),
        ("sandbox-runtime", "1000", "", BASE | BWRAP | {"srt-call"} | SRT),
        ("sandbox-runtime", "1000", "/proc/bus", BASE | {"bwrap-user", "srt-call-weaker"}),
        ("bubblewrap", "0", "", BASE | BWRAP | {"bwrap-ordinary"}),
        ("bubblewrap", "1000", "/proc/bus", BASE | {"bwrap-user"}),
        ("rootless", "0", "", BASE | {"rootless-mounts", "rootless-runc"}),
        ("rootless", "1000", "/proc/bus", BASE | {"rootless-mounts", "rootless-runc"}),
        (None, "0", "", set()),
    ],
)
def test_what_counts_follows_from_the_sandbox_that_is_promised(
    sandbox: str | None, uid: str, masks: str, names: set[str]
) -> None:
    text = transcript(uid=("ok", uid, ""), proc_masks=("ok", masks, ""))
    assert counted(judge(text, NONCE, NODE, [SEED], sandbox=sandbox)) == names


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_each_rung_that_counts_fails_alone_and_is_missed_alone(sandbox: str) -> None:
    for name in counted(judge(transcript(), NONCE, NODE, [SEED], sandbox=sandbox)):
        key = name.replace("-", "_")
        failed = judge(transcript(**{key: ("fail", "1", "boom")}), NONCE, NODE, [SEED], sandbox=sandbox)
        assert failed.code and failed.message.startswith(f"rung {name} ("), name
        if name not in SRT:
            missed = judge(transcript(**{key: ("absent", "", "x")}), NONCE, NODE, [SEED], sandbox=sandbox)
            assert missed.code == "proof-tool-missing", name


@pytest.mark.parametrize("place", PLACES)
def test_a_missing_tool_is_reported_with_the_remedy_of_its_place(place: str) -> None:
    text = transcript(bwrap_user=("absent", "", "bwrap%20is%20not%20installed%20here"))
    verdict = judge(text, NONCE, NODE, [SEED], place=place)
    assert verdict.code == "proof-tool-missing" and "bubblewrap" in verdict.remedy


def test_a_masked_proc_is_not_cured_by_capabilities() -> None:
    text = transcript(proc_masks=("ok", "/proc/bus", ""), bwrap_user_proc=("fail", "1", MASKED))
    remedies = {place: judge(text, NONCE, NODE, [], place=place).remedy for place in PLACES}
    assert all("NET_ADMIN" not in remedy for remedy in remedies.values())
    assert "entry.sh" in remedies["image"] and "systempaths=unconfined" in remedies["image"]
    assert "entry.sh" in remedies["pod"] and "docker" not in remedies["pod"], "words of Docker mean nothing on a cluster"


def test_without_the_promise_of_a_nested_sandbox_only_guest_and_parameters_count() -> None:
    low = {"user_namespaces": ("ok", "0", ""), "unshare": ("fail", "1", ENOSPC), "bwrap_proc": ("absent", "", "x")}
    verdict = judge(transcript(**low), NONCE, NODE, [SEED], sandbox=None)
    assert verdict.passed and verdict.user_namespaces == 0
    assert {rung.name: rung.passed for rung in verdict.rungs}["unshare"] is False
    assert judge(transcript(boot_id=("ok", NODE, "")), NONCE, NODE, [SEED], sandbox=None).code == "proof-not-a-guest"


@pytest.mark.parametrize(
    ("network", "names", "code", "words"),
    [
        (("ok", "172.17.0.2", ""), ("ok", "deb.debian.org", ""), None, ""),
        (("fail", "", "no%20address"), ("absent", "", ""), "proof-network-missing", "has no address"),
        (("ok", "172.17.0.2", ""), ("fail", "x", "name%20servers:%20127.0.0.11"), "proof-network-missing", "127.0.0.11"),
        (("ok", "172.17.0.2", ""), ("fail", "x", "name%20servers:%20none"), "proof-network-missing", "resolves no name"),
        (("ok", "172.17.0.2", ""), ("absent", "", ""), None, ""),
    ],
)
def test_network_and_names_count_when_asked_for(
    network: tuple[str, str, str], names: tuple[str, str, str], code: str | None, words: str
) -> None:
    route = ("ok", "eth0", "")
    verdict = judge(transcript(network=network, route=route, name_resolution=names), NONCE, NODE, [SEED], network=True)
    assert verdict.code == code and words in verdict.message


@pytest.mark.parametrize("broken", ["network", "route", "name_resolution"])
def test_a_pod_without_a_network_is_reported_without_words_of_docker(broken: str) -> None:
    lines = dict.fromkeys(("network", "route", "name_resolution"), ("ok", "x", ""))
    verdict = judge(transcript(**{**lines, broken: ("fail", "x", "127.0.0.11")}), NONCE, NODE, [SEED], place="pod")
    assert verdict.code == "proof-network-missing" and "the pod" in verdict.message
    assert "docker" not in f"{verdict.message} {verdict.remedy}".lower()


def test_a_container_without_a_default_route_has_no_network() -> None:
    text = transcript(
        network=("ok", "172.17.0.2", ""), route=("fail", "", "no%20default%20route"), name_resolution=("absent", "", "")
    )
    verdict = judge(text, NONCE, NODE, [SEED], network=True)
    assert verdict.code == "proof-network-missing" and verdict.message.startswith("rung route (")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_line_is_never_a_pass(name: str) -> None:
    lines = [line for line in transcript().splitlines() if f"rung={name} " not in line]
    verdict = judge("\n".join(lines), NONCE, NODE, [SEED])
    assert verdict.code == "proof-transcript-incomplete" and name in verdict.message


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("uid", ("absent", "", "x")),
        ("uid", ("ok", "00", "")),
        ("uid", ("ok", "root", "")),
        ("uid", ("ok", "", "")),
        ("kernel", ("fail", "", "x")),
        ("proc-masks", ("absent", "", "x")),
    ],
)
def test_a_ladder_that_cannot_tell_who_climbs_is_never_a_pass(name: str, reading: tuple[str, str, str]) -> None:
    # Else the rungs that count for root alone would be left out.
    verdict = judge(transcript(**{name.replace("-", "_"): reading}), NONCE, NODE, [SEED])
    assert verdict.code == "proof-transcript-incomplete" and name in verdict.message


def test_a_reading_above_the_kernels_highest_is_no_limit() -> None:
    verdict = judge(transcript(user_namespaces=("ok", "2147483648", "")), NONCE, NODE, [SEED])
    assert verdict.code == "proof-user-namespaces-not-a-number"


def test_what_is_for_init_is_not_expected_of_the_kernel() -> None:
    verdict = judge(transcript(command_line=("ok", f"quiet%20--%20{SEED}", "")), NONCE, NODE, [SEED])
    assert verdict.code == "proof-parameters-missing" and f"lacks {SEED}" in verdict.message


@pytest.mark.parametrize(
    ("code", "words", "cause", "remedy"),
    [
        ("124", "", "did not end in the time", "hardware virtualization"),
        ("143", "", "did not end in the time", "hardware virtualization"),
        ("137", "Killed", "it was killed", "default_memory"),
        ("1", "fork:%20Cannot%20allocate%20memory", "got no memory", "default_memory"),
    ],
)
def test_a_command_without_memory_is_not_called_slow(code: str, words: str, cause: str, remedy: str) -> None:
    verdict = judge(transcript(unshare=("fail", code, words)), NONCE, NODE, [SEED])
    assert cause in verdict.message and remedy in verdict.remedy


def test_a_network_that_was_asked_for_and_not_reported_is_never_a_pass() -> None:
    assert judge(transcript(), NONCE, NODE, [SEED], network=True).code == "proof-transcript-incomplete"


def test_no_end_a_garbled_line_or_a_rung_reported_twice_is_never_a_pass() -> None:
    garbled = transcript().replace("rung=unshare-nested status=ok", "rung=unshare-n[  1.2] oops")
    twice = transcript().replace(f"{NONCE} end", f"{NONCE} rung=user-namespaces status=ok value=1 detail=\n{NONCE} end")
    for text, words in (
        (transcript().replace(f"{NONCE} end", ""), "has no end"),
        # Such as by the kernel's own words, as of a processor that hangs: what follows was reported, and is not what lacks.
        (garbled, "has a line that is garbled, or stands twice, behind unshare-map-root"),
        (twice, "has a line that is garbled, or stands twice, behind subordinate-ids"),
        (transcript().partition(f"{NONCE} rung=bwrap-user ")[0], "lacks bwrap-user, bwrap-user-proc"),
        ("", "lacks boot-id"),
    ):
        verdict = judge(text, NONCE, NODE, [SEED])
        assert verdict.code == "proof-transcript-incomplete" and words in verdict.message, verdict.message


def test_lines_without_the_nonce_do_not_count() -> None:
    other = transcript().replace(NONCE, "ffffffffffffffffffffffffffffffff")
    assert readings(other, NONCE) == ({}, False)
    assert judge(other + transcript(), NONCE, NODE, [SEED]).passed


def test_a_guests_words_are_bounded_and_stripped_of_control_characters() -> None:
    wild = "%1B[31m" + "A" * 50000 + "%0Aroot"
    verdict = judge(transcript(unshare=("fail", "1", wild)), NONCE, NODE, [SEED])
    assert len(verdict.message) < 1000
    assert all(c.isprintable() for c in verdict.message)
    assert all(len(rung.detail) <= 4096 and "\x1b" not in rung.detail for rung in verdict.rungs)
