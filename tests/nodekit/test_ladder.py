"""The verdict on a ladder's transcript: a false pass, a wrong cause, a guest's own words in the wrong place."""

import pytest

from nodekit.errors import CODES
from nodekit.rules.ladder import REQUIRED, judge, readings

NONCE = "00112233445566778899aabbccddeeff"
NODE = "11111111-2222-3333-4444-555555555555"
GUEST = "99999999-8888-7777-6666-555555555555"
SEED = "user_namespace.enable=1"
FINE = {
    "boot-id": ("ok", GUEST, ""),
    "kernel": ("ok", "6.12.9", ""),
    "command-line": ("ok", f"quiet%20{SEED}%20console=ttyS0", ""),
    "user-namespaces": ("ok", "7563", ""),
    "uid": ("ok", "0", ""),
    "unshare": ("ok", "0", ""),
    "unshare-map-root": ("ok", "0", ""),
    "unshare-nested": ("ok", "0", ""),
    "bwrap-proc": ("absent", "", "bwrap%20is%20not%20installed%20here"),
    "bwrap-user": ("absent", "", "bwrap%20is%20not%20installed%20here"),
    "bwrap-user-proc": ("absent", "", "bwrap%20is%20not%20installed%20here"),
    "loopback": ("ok", "0", ""),
}
ENOSPC = "unshare:%20unshare(0x10000000):%20No%20space%20left%20on%20device"


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
    assert [rung.name for rung in verdict.rungs] == [name for name in FINE if name not in ("kernel", "uid")]
    assert verdict.climbed("unshare-nested") and not verdict.climbed("bwrap-proc")
    assert {rung.name: rung.passed for rung in verdict.rungs}["bwrap-proc"] is None


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"boot_id": ("ok", NODE, "")}, "proof-not-a-guest", "the node's own"),
        ({"boot_id": ("ok", "", "")}, "proof-not-a-guest", "no boot id could be read"),
        ({"boot_id": ("absent", "", "")}, "proof-not-a-guest", "no boot id could be read"),
        ({"command_line": ("ok", "quiet", "")}, "proof-parameters-missing", f"lacks {SEED}"),
        ({"command_line": ("ok", f"{SEED}0", "")}, "proof-parameters-missing", f"lacks {SEED}"),
        ({"user_namespaces": ("ok", "0", "")}, "proof-user-namespaces-zero", "read '0'"),
        ({"user_namespaces": ("absent", "", "x")}, "proof-user-namespaces-absent", "CONFIG_USER_NS=n"),
        ({"user_namespaces": ("fail", "", "Permission%20denied")}, "proof-user-namespaces-unreadable", "Permission denied"),
        ({"user_namespaces": ("ok", "many", "")}, "proof-user-namespaces-not-a-number", "read 'many'"),
        ({"user_namespaces": ("ok", "", "")}, "proof-user-namespaces-not-a-number", "read ''"),
        ({"user_namespaces": ("ok", "-1", "")}, "proof-user-namespaces-not-a-number", "read '-1'"),
        ({"user_namespaces": ("ok", "2147483647", "")}, "proof-user-namespaces-child-namespace", "child user namespace"),
        ({"unshare": ("fail", "1", ENOSPC)}, "proof-unshare-failed", "No space left on device"),
        ({"unshare": ("absent", "", "x")}, "proof-unshare-failed", "not installed"),
        ({"unshare_map_root": ("fail", "1", "Operation%20not%20permitted")}, "proof-unshare-failed", "the guest forbids it"),
        ({"unshare_nested": ("fail", "1", ENOSPC)}, "proof-nested-failed", "nesting"),
        ({"bwrap_proc": ("fail", "1", "bwrap:%20Operation%20not%20permitted")}, "proof-bwrap-failed", "capability"),
        ({"bwrap_user": ("fail", "1", "bwrap:%20(ENOSPC)")}, "proof-bwrap-failed", "limit"),
        ({"loopback": ("fail", "2", "RTNETLINK%20answers:%20Operation%20not%20permitted")}, "proof-loopback-failed", "RTNETLINK"),
    ],
)
def test_each_failing_rung_has_its_own_code_cause_and_remedy(
    changes: dict[str, tuple[str, str, str]], code: str, words: str
) -> None:
    verdict = judge(transcript(**changes), NONCE, NODE, [SEED])
    assert verdict.code == code and code in CODES
    assert words in verdict.message
    assert verdict.message.startswith(f"rung {next(iter(changes)).replace('_', '-')} (")
    assert verdict.remedy and "\n" not in verdict.message


def test_the_first_failing_rung_decides() -> None:
    verdict = judge(transcript(user_namespaces=("ok", "0", ""), unshare=("fail", "1", ENOSPC)), NONCE, NODE, [SEED])
    assert verdict.code == "proof-user-namespaces-zero"
    assert {rung.name: rung.passed for rung in verdict.rungs}["unshare"] is False


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("sysctl.user.max_user_namespaces=0", "sysctl.user.max_user_namespaces=0 on the guest's command line"),
        (
            "sysctl.user.max_user_namespaces=9%20sysctl/user/max_user_namespaces=0",
            "sysctl/user/max_user_namespaces=0 on the guest's",
        ),
        ("quiet", "a hardening default"),
    ],
)
def test_a_limit_of_zero_names_who_set_it_and_the_config_key(line: str, cause: str) -> None:
    verdict = judge(transcript(command_line=("ok", line, ""), user_namespaces=("ok", "0", "")), NONCE, NODE, [])
    assert cause in verdict.message
    assert "kata.kernelParams" in verdict.remedy


def test_a_masked_proc_is_reported_and_does_not_fail_a_container() -> None:
    verdict = judge(
        transcript(bwrap_user_proc=("fail", "1", "Can't%20mount%20proc%20on%20/proc:%20Operation%20not%20permitted")),
        NONCE,
        NODE,
        [],
    )
    assert verdict.passed
    rung = next(rung for rung in verdict.rungs if rung.name == "bwrap-user-proc")
    assert (rung.need, rung.passed) == ("proc", False)


def test_bubblewrap_needs_capabilities_as_root_and_user_namespaces_as_a_plain_user() -> None:
    needs = {
        uid: {rung.name: rung.need for rung in judge(transcript(uid=("ok", uid, "")), NONCE, NODE, []).rungs}["bwrap-proc"]
        for uid in ("0", "1000")
    }
    assert needs == {"0": "capabilities", "1000": "user-namespaces"}


def test_without_the_promise_of_a_nested_sandbox_only_guest_and_parameters_count() -> None:
    low = {"user_namespaces": ("ok", "0", ""), "unshare": ("fail", "1", ENOSPC)}
    verdict = judge(transcript(**low), NONCE, NODE, [SEED], nested=False)
    assert verdict.passed and verdict.user_namespaces == 0
    assert judge(transcript(boot_id=("ok", NODE, "")), NONCE, NODE, [SEED], nested=False).code == "proof-not-a-guest"


def test_an_image_without_unshare_neither_passes_nor_fails() -> None:
    gone = ("absent", "", "unshare%20is%20not%20installed%20here")
    text = transcript(unshare=gone, unshare_map_root=gone, unshare_nested=gone, loopback=gone)
    verdict = judge(text, NONCE, NODE, [SEED], unshare_required=False)
    assert verdict.passed and not verdict.climbed("unshare")


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
    verdict = judge(transcript(network=network, name_resolution=names), NONCE, NODE, [SEED], network=True)
    assert verdict.code == code and words in verdict.message


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_line_is_never_a_pass(name: str) -> None:
    lines = [line for line in transcript().splitlines() if f"rung={name} " not in line]
    verdict = judge("\n".join(lines), NONCE, NODE, [SEED])
    assert verdict.code == "proof-transcript-incomplete" and name in verdict.message


def test_a_network_that_was_asked_for_and_not_reported_is_never_a_pass() -> None:
    assert judge(transcript(), NONCE, NODE, [SEED], network=True).code == "proof-transcript-incomplete"


def test_no_end_a_garbled_line_or_a_rung_told_twice_is_never_a_pass() -> None:
    garbled = transcript().replace("rung=unshare-nested status=ok", "rung=unshare-n[  1.2] oops")
    twice = transcript().replace(f"{NONCE} end", f"{NONCE} rung=user-namespaces status=ok value=1 detail=\n{NONCE} end")
    for text in (transcript().replace(f"{NONCE} end", ""), garbled, twice, ""):
        assert judge(text, NONCE, NODE, [SEED]).code == "proof-transcript-incomplete"


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
