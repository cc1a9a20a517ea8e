"""The ladder's script under every shell it meets: the same lines, real readings, real failures."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from clusterkit.pod_proof import key_pattern
from nodekit.host.guest import new_nonce
from nodekit.rules.kata.kernel_params import command_line_budget
from nodekit.rules.proof.ladder import COMMANDS, REQUIRED, Reading, Verdict, judge, readings
from nodekit.scripts import ladder_script, script

NONCE = new_nonce()  # names a folder of a rung in /tmp, which two runs side by side must not share
SCRIPT = ladder_script()
SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]
LIMIT = "/proc/sys/user/max_user_namespaces"
ZERO = f"echo 0 >{LIMIT}"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode != 0,
        reason="needs user namespaces on this machine",
    ),
]


def test_what_is_sent_is_the_script_without_comments_and_indentation() -> None:
    """As bash reads both: the same commands and, but for the start of a line, the same texts."""
    sent, whole = (
        subprocess.run(["bash", "--pretty-print", "/dev/stdin"], input=text, capture_output=True, text=True, check=True).stdout
        for text in (SCRIPT, script("ladder.sh"))
    )
    assert [line.lstrip() for line in sent.splitlines() if line] == [line.lstrip() for line in whole.splitlines() if line]
    assert "\n " not in SCRIPT and " # " not in SCRIPT and len(SCRIPT) < 14_000


def climb(shell: list[str], before: str = ":", env: dict[str, str] | None = None, around: tuple[str, ...] = ()) -> str:
    """What the script prints as an argument of the shell; `around` is a command that runs it, `before` a line that runs first."""
    result = subprocess.run(
        [*around, *shell, "-c", f"{before}\n{SCRIPT}"],
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "KATA_NODES_NONCE": NONCE, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def read(text: str) -> dict[str, Reading]:
    """The readings of a whole transcript."""
    by_name, whole = readings(text, NONCE)
    assert whole, text
    return by_name


def fake(place: Path, script: str) -> None:
    """A program in place of the real one."""
    place.write_text(script)
    place.chmod(0o755)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_facts_are_read_whole(shell: list[str]) -> None:
    by_name = read(climb(shell))
    assert set(REQUIRED) <= set(by_name)
    for rung, path in (
        ("boot-id", "/proc/sys/kernel/random/boot_id"),
        ("kernel", "/proc/sys/kernel/osrelease"),
        ("command-line", "/proc/cmdline"),
        ("user-namespaces", LIMIT),
    ):
        assert by_name[rung] == Reading("ok", Path(path).read_text().strip(), "")
    assert by_name["uid"].value == str(os.getuid())


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_each_line_has_the_kernels_time_and_counts_without_one_too(shell: list[str]) -> None:
    times = [rung.at for rung in judge(climb(shell), NONCE, "", []).rungs]
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert len(times) > 15 and None not in times
    assert uptime - 120 < min(filter(None, times)) and times[0] <= times[-1] <= uptime  # type: ignore[operator]
    without = climb(shell, "mount --bind /dev/null /proc/uptime", around=("unshare", "-Urm"))
    read(without)
    assert {rung.at for rung in judge(without, NONCE, "", []).rungs} == {None}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_this_machine_is_not_taken_for_a_guest(shell: list[str]) -> None:
    text = climb(shell)
    verdict = judge(text, NONCE, read(text)["boot-id"].value, [])
    assert verdict.code == "proof-not-a-guest"
    assert judge(text, NONCE, "another", []).passed


def rung(verdict: Verdict, name: str) -> bool | None:
    """Whether that rung was climbed."""
    return next(rung.passed for rung in verdict.rungs if rung.name == name)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_every_way_of_a_sandbox_is_gone_here(shell: list[str]) -> None:
    verdict = judge(climb(shell), NONCE, "another", [])
    passed = {
        command.name: rung(verdict, command.name)
        for command in COMMANDS
        if not command.optional and command.sandboxes and command.mode != "weak" and (shutil.which(command.tool or "sh"))
    }
    assert passed == dict.fromkeys(passed, True)


MASK = "mount -t tmpfs x /proc/bus"
RUNC = ("rootless-runc",) if shutil.which("runc") else ()
UNMASKED_NEEDED = ("bwrap-user-proc", "bwrap-ordinary", "srt-call", "srt-call-ordinary", "rootless-mounts", *RUNC)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_masked_proc_is_felt_and_a_mount_of_its_own_cures_it(shell: list[str]) -> None:
    masked = climb(shell, before=MASK, around=("unshare", "-m"))
    verdict = judge(masked, NONCE, "another", [])
    assert read(masked)["proc-masks"].value == "/proc/bus"
    assert verdict.code == "proof-bwrap-failed" and "paths below /proc are masked" in verdict.message
    assert {name: rung(verdict, name) for name in UNMASKED_NEEDED} == dict.fromkeys(UNMASKED_NEEDED, False)
    assert rung(verdict, "srt-call-weaker") is True
    causes = {rung.cause for rung in verdict.rungs if rung.name in UNMASKED_NEEDED}
    assert len(causes) == 1 and "paths below /proc are masked" in causes.pop()
    entry = script("entry.sh")
    cured = f'{MASK}; [ "${{1:-}}" = entered ] || exec sh -c "$ENTRY" entry "$@"'
    text = subprocess.run(
        ["unshare", "-mpf", *shell, "-c", cured, "before", *shell, "-c", SCRIPT],
        env={"PATH": os.environ["PATH"], "KATA_NODES_NONCE": NONCE, "ENTRY": entry},
        capture_output=True, text=True, timeout=100, check=True,
    ).stdout  # fmt: skip
    assert judge(text, NONCE, "another", []).passed, text


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_an_emptied_bounding_set_is_felt(shell: list[str]) -> None:
    verdict = judge(climb(shell, around=("setpriv", "--bounding-set=-setfcap")), NONCE, "another", [])
    assert verdict.code == "proof-unshare-failed" and "CAP_SETFCAP is not in the bounding set" in verdict.message
    assert rung(verdict, "srt-call") is False and rung(verdict, "srt-call-ordinary") is True


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_bubblewrap_that_empties_the_bounding_set_is_named(shell: list[str]) -> None:
    # As 0.9 does for what runs in it: what --cap-add grants does not reach the command.
    emptying = f"""#!/bin/sh
for word; do shift; case $word in --cap-add | CAP_SETFCAP) ;; *) set -- "$@" "$word" ;; esac; done
exec {shutil.which("bwrap")} "$@"
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the ordinary user runs it too
        fake(Path(folder) / "bwrap", emptying)
        text = climb(shell, env={"PATH": f"{folder}:{os.environ['PATH']}"})
    verdict = judge(text, NONCE, "another", [])
    assert verdict.code == "proof-srt-failed", verdict
    assert verdict.message.startswith("rung srt-call (") and "bubblewrap emptied the bounding set" in verdict.message


@pytest.mark.skipif(os.getuid() != 0, reason="as uid 0 all three calls are climbed")
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("refused", "failed"),
    [
        ('case "$*" in *--unshare-user*) false ;; esac', {"bwrap-proc"}),
        ('case "$*" in *--cap-drop*) [ "$(id -u)" = 0 ] ;; *) false ;; esac', {"srt-call"}),
        ('[ "$(id -u)" = 1000 ]', {"srt-call-ordinary", "bwrap-ordinary"}),
        ("true", {"bwrap-proc", "srt-call", "srt-call-ordinary", "bwrap-user", "bwrap-user-proc", "bwrap-ordinary"}),
    ],
)
def test_a_call_that_is_climbed_together_with_others_fails_by_itself(shell: list[str], refused: str, failed: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the ordinary user runs it too
        refuse = f"if {refused}; then echo refused >&2; exit 9; fi"
        fake(Path(folder) / "bwrap", f'#!/bin/sh\n{refuse}\nexec {shutil.which("bwrap")} "$@"\n')
        by_name = read(climb(shell, env={"PATH": f"{folder}:{os.environ['PATH']}"}))
    failing = {command.name for command in COMMANDS if by_name[command.name].status == "fail"} - {"srt-call-weaker"}
    assert failing == failed
    assert {by_name[name] for name in failed} == {Reading("fail", "9", "refused")}


@pytest.mark.skipif(os.getuid() != 0, reason="as uid 0 capabilities are effective")
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("dropped", "detail"), [([], "part of srt-call"), (["setpriv", "--bounding-set=-sys_time"], "")])
def test_bubblewrap_by_capabilities_is_tried_itself_unless_every_capability_is_there(
    shell: list[str], dropped: list[str], detail: str
) -> None:
    around = ("unshare", "-Ur", *dropped)  # a user namespace has every capability, which this machine's own root may lack
    assert read(climb(shell, around=around))["bwrap-proc"] == Reading("ok", "0", detail)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("before", "code"), [(":", None), (MASK, None)])
def test_an_ordinary_user_has_the_default_mode_with_a_clean_proc_and_else_the_weaker(
    shell: list[str], before: str, code: str | None
) -> None:
    plain = ("unshare", "-m", "sh", "-c", f'{before}; exec setpriv --reuid=1000 --regid=1000 --clear-groups "$@"', "sh")
    verdict = judge(climb(shell, around=plain), NONCE, "another", [])
    assert verdict.code == code, verdict
    counts = {rung.name for rung in verdict.rungs if rung.counts}
    assert ("srt-call-weaker" in counts) == (before == MASK) and ("srt-call" in counts) == (before != MASK)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_message_of_a_pod_holds_what_the_judge_needs(shell: list[str], tmp_path: Path) -> None:
    message = tmp_path / "message"
    token = Path("/proc/cmdline").read_text().split()[0]
    env = {"KATA_NODES_MESSAGE": str(message), "KATA_NODES_KEYS": f"{key_pattern(token)} none"}
    printed = climb(shell, before=MASK, env=env, around=("unshare", "-m"))
    kept = message.read_text()
    assert len(kept.encode()) <= 4096
    full, short = (judge(text, NONCE, "another", [token]) for text in (printed, kept))
    assert (short.code, short.message) == (full.code, full.message)
    end = " --" * ("--" in Path("/proc/cmdline").read_text().split())
    assert short.command_line == f"{token}{end}"
    assert [(rung.name, rung.passed) for rung in short.rungs] == [(rung.name, rung.passed) for rung in full.rungs]
    assert {rung.name: rung.at for rung in short.rungs if rung.at is not None} == {"boot-id": full.rungs[0].at}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_message_of_a_pod_says_which_tool_is_missing_and_which_rung_stands_for_another(
    shell: list[str], tmp_path: Path
) -> None:
    message = tmp_path / "message"
    for tool in ("cat", "ip", "mount", "sh", "timeout", "true", "unshare"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    at = str(shutil.which(shell[0]))
    printed = climb([at, *shell[1:]], env={"PATH": str(tmp_path), "KATA_NODES_MESSAGE": str(message)})
    texts = printed, message.read_text()
    full, short = (judge(text, NONCE, "another", [], sandbox="bubblewrap", place="pod") for text in texts)
    assert short.code == "proof-tool-missing" and short.message == full.message
    assert "bwrap is not installed here, so this was not tried" in short.message
    by_name = {rung.name: rung.detail for rung in short.rungs}
    assert by_name["unshare"] == "part of unshare-nested" and by_name["srt-call"] == "bwrap is not installed here"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_parameter_with_blanks_between_its_quotes_is_in_the_message(shell: list[str], tmp_path: Path) -> None:
    message, line = tmp_path / "message", tmp_path / "line"
    expected = ['dyndbg="module vsock +p"', '"a=b  c"', 'x="1 "y', "plain=1"]
    line.write_text(f'quiet  z="2 plain=1" {" ".join(expected)} sysctl.user.max_user_namespaces=9 w="\n')
    env = {"KATA_NODES_MESSAGE": str(message), "KATA_NODES_KEYS": f"none {' '.join(map(key_pattern, expected))}"}
    climb(shell, before=f"mount --bind {line} /proc/cmdline", env=env, around=("unshare", "-m"))
    verdict = judge(message.read_text(), NONCE, "another", expected, sandbox=None)  # what lies over a path of proc bars a sandbox
    assert verdict.passed, verdict
    assert verdict.command_line == f"{' '.join(expected)} sysctl.user.max_user_namespaces=9"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("later", "code"),
    [
        ("sysctl.user.max_net_namespaces=0", "proof-parameters-missing"),
        ("sysctl/user/max_net_namespaces=0", "proof-parameters-missing"),
        ('"sysctl.user.max_net_namespaces=0"', "proof-parameters-missing"),
        ("sysctl.user.max_mnt_namespaces=0", None),
        ("-- sysctl.user.max_net_namespaces=0", None),
    ],
)
def test_what_replaces_a_parameter_is_in_the_message_too(shell: list[str], tmp_path: Path, later: str, code: str | None) -> None:
    message, line = tmp_path / "message", tmp_path / "line"
    expected = ["sysctl.user.max_net_namespaces=1000", "module_x.y-z"]
    line.write_text(f"quiet {' '.join(expected)} {later}\n")
    env = {"KATA_NODES_MESSAGE": str(message), "KATA_NODES_KEYS": " ".join(map(key_pattern, expected))}
    printed = climb(shell, before=f"mount --bind {line} /proc/cmdline", env=env, around=("unshare", "-m"))
    for text in (printed, message.read_text()):
        assert judge(text, NONCE, "another", expected, sandbox=None).code == code


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_what_is_for_init_is_no_parameter_of_the_kernel(shell: list[str], tmp_path: Path) -> None:
    message, line = tmp_path / "message", tmp_path / "line"
    line.write_text("quiet -- sysctl.user.max_user_namespaces=100 a=1\n")
    env = {"KATA_NODES_MESSAGE": str(message), "KATA_NODES_KEYS": "a"}
    printed = climb(shell, before=f"mount --bind {line} /proc/cmdline", env=env, around=("unshare", "-m"))
    for text in (printed, message.read_text()):
        for token in ("sysctl.user.max_user_namespaces=100", "a=1"):
            assert judge(text, NONCE, "another", [token], sandbox=None).code == "proof-parameters-missing"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_command_with_much_to_say_does_not_keep_the_ladder(shell: list[str], tmp_path: Path) -> None:
    fake(tmp_path / "bwrap", '#!/bin/sh\necho "first  words" >&2\nhead -c 300000 /dev/zero | tr "\\0" "\\t" >&2\nexit 3\n')
    by_name = read(climb(shell, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}))
    assert by_name["bwrap-user"].value == "3" and by_name["bwrap-user"].detail.startswith("first  words\n\t")


def test_the_message_stays_within_the_kubelets_bound_where_everything_fails(tmp_path: Path) -> None:
    message = tmp_path / "message"
    fake(tmp_path / "bwrap", "#!/bin/sh\nprintf '%0900d' 0 | tr 0 '%' >&2\nexit 1\n")
    for tool in ("unshare", "srt", "ip"):
        (tmp_path / tool).symlink_to("bwrap")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KATA_NODES_MESSAGE": str(message)}
    climb(["dash"], env=env)
    assert len(message.read_bytes()) <= 4096
    by_name, whole = readings(message.read_text(), NONCE)
    assert whole and by_name["unshare"].status == "fail" and by_name["unshare"].detail == "%" * 40


def test_the_message_of_as_many_parameters_as_fit_stays_within_the_kubelets_bound(tmp_path: Path) -> None:
    """A report that is cut has no end, and says nothing of its last rungs."""
    message, line = tmp_path / "message", tmp_path / "line"
    line.write_text(" ".join(f"parameter{number:02}=value" for number in range(command_line_budget() // 18)) + "\n")
    fake(tmp_path / "bwrap", "#!/bin/sh\nprintf '%0900d' 0 | tr 0 '%' >&2\nexit 1\n")
    for tool in ("unshare", "srt", "ip", "getent", "runc", "newuidmap"):
        (tmp_path / tool).symlink_to("bwrap")
    env = {
        "KATA_NODES_MESSAGE": str(message),
        "KATA_NODES_NONCE": NONCE[:16],  # as long as a pod's
        "KATA_NODES_KEYS": "parameter??",
        "KATA_NODES_NETWORK": "1",
        "KATA_NODES_NAME": "localhost",
    }
    unshare, own = str(shutil.which("unshare")), os.environ["PATH"]
    for path in (own, f"{tmp_path}:{own}"):
        climb(["dash"], before=f"mount --bind {line} /proc/cmdline", env={**env, "PATH": path}, around=(unshare, "-m"))
        text = message.read_text()
        assert len(text) <= 4096 and readings(text, NONCE[:16])[1], len(text)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_limit_of_zero_is_read_and_felt(shell: list[str]) -> None:
    text = climb(shell, before=ZERO, around=("unshare", "-Ur"))
    by_name = read(text)
    assert by_name["user-namespaces"].value == "0"
    assert by_name["unshare"].status == "fail" and "No space left on device" in by_name["unshare"].detail
    assert judge(text, NONCE, "another", []).code == "proof-user-namespaces-zero"


@pytest.mark.skipif(not RUNC, reason="needs runc")
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_limit_of_zero_stops_rootless_runc(shell: list[str]) -> None:
    # uid 1000 of a user namespace in which it alone is mapped, with the capabilities to set the limit there.
    around = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "unshare", "-U", "--map-current-user", "--keep-caps")
    before, after = (judge(climb(shell, first, around=around), NONCE, "x", [], sandbox="rootless") for first in (":", ZERO))
    assert rung(before, "rootless-runc") is True and rung(after, "rootless-runc") is False
    assert "the limit of user namespaces" in next(rung.cause for rung in after.rungs if rung.name == "rootless-runc"), after


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_child_user_namespace_does_not_pass(shell: list[str]) -> None:
    text = climb(shell, around=("unshare", "-Ur"))
    assert judge(text, NONCE, "another", []).code == "proof-user-namespaces-child-namespace"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("over", "code"),
    [
        ("f=$(mktemp); echo many >$f; mount --bind $f {limit}", "proof-user-namespaces-not-a-number"),
        ("mount -t tmpfs x /proc/sys/user", "proof-user-namespaces-absent"),
        ("d=$(mktemp -d); mkdir $d/max_user_namespaces; mount --bind $d /proc/sys/user", "proof-user-namespaces-unreadable"),
    ],
)
def test_what_lies_over_the_limit_is_distinguished(shell: list[str], over: str, code: str) -> None:
    text = climb(shell, before=over.format(limit=LIMIT), around=("unshare", "-Urm"))
    assert judge(text, NONCE, "another", []).code == code


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_missing_tools_are_absent_and_not_failed(shell: list[str], tmp_path: Path) -> None:
    for tool in ("cat", "id", "true"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    at = str(shutil.which(shell[0]))
    by_name = read(climb([at, *shell[1:]], env={"PATH": str(tmp_path)}))
    assert {name: by_name[name].status for name in ("bwrap-proc", "bwrap-user")} == {
        "bwrap-proc": "absent",
        "bwrap-user": "absent",
    }
    # A busybox shell brings unshare and ip itself or not, as it was built; it must not call either a failure.
    assert "fail" not in {by_name[name].status for name in ("unshare", "loopback")}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_commands_words_arrive_escaped_and_whole(shell: list[str], tmp_path: Path) -> None:
    fake(tmp_path / "bwrap", "#!/bin/sh\nprintf 'a%%b\\tc\\nd\\033e\\303\\251 f*$HOME' >&2\nexit 3\n")
    by_name = read(climb(shell, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}))
    assert by_name["bwrap-user"] == Reading("fail", "3", "a%b\tc\nd?e?? f*$HOME")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_command_that_hangs_is_bounded(shell: list[str], tmp_path: Path) -> None:
    fake(tmp_path / "bwrap", "#!/bin/sh\nexec sleep 60\n")
    by_name = read(climb(shell, env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "KATA_NODES_SECONDS": "1"}))
    assert by_name["bwrap-proc"].status == "fail"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_timeout_that_takes_its_seconds_by_an_option_fails_no_rung(shell: list[str], tmp_path: Path) -> None:
    fake(tmp_path / "timeout", '#!/bin/sh\n[ "$1" = -t ] || exit 1\nshift 2\nexec "$@"\n')  # busybox's before 1.30
    by_name = read(climb(shell, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}))
    assert {by_name[name].status for name in ("unshare-nested", "bwrap-proc", "srt-call")} == {"ok"}


def test_a_namespace_without_network_is_seen_after_a_wait(tmp_path: Path) -> None:
    fake(tmp_path / "sleep", f"#!/bin/sh\necho $1 >>{tmp_path}/slept\n")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KATA_NODES_NETWORK": "1", "KATA_NODES_NAME": "name.invalid"}
    by_name = read(climb(["sh"], env=env, around=("unshare", "-Urn")))
    assert by_name["network"].status == "fail" and "interfaces:" in by_name["network"].detail
    assert by_name["name-resolution"].status == "fail" and by_name["name-resolution"].value == "name.invalid"
    assert (tmp_path / "slept").read_text().split() == ["1"] * 10


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_an_address_is_found_without_any_tool(shell: list[str]) -> None:
    before = "ip link add seen type bridge && ip address add 198.51.100.7/24 dev seen && ip link set seen up"
    by_name = read(climb(shell, before=before, env={"KATA_NODES_NETWORK": "1"}, around=("unshare", "-Urn")))
    assert by_name["network"].status == "ok" and by_name["network"].value == "198.51.100.7"
    assert by_name["route"].status == "fail"
    for way in ("-4 route add default via 198.51.100.1", "-6 route add default via 2001:db8::1"):
        script = f"{before} && ip address add 2001:db8::7/64 dev seen && ip {way} dev seen"
        routed = read(climb(shell, before=script, env={"KATA_NODES_NETWORK": "1"}, around=("unshare", "-Urn")))
        assert routed["route"] == Reading("ok", "seen", ""), way
    assert by_name["name-resolution"].status == "absent"
