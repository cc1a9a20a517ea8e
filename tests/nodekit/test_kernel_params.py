"""Merging guest kernel parameters. Lost if these fail: the base string, without which a guest never comes up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodekit.errors import NodeError
from nodekit.rules.kata.kernel_params import (
    KATA_ADDS,
    MAX_COMMAND_LINE,
    REPEATABLE,
    Parameter,
    check,
    command_line_budget,
    format,
    inert,
    merge,
    note,
    parse,
    replacements,
    tokens,
    unmerge,
)
from tests.nodekit.kata_files import BASE

SEED = "user_namespace.enable=1"
NVIDIA = "cgroup_no_v1=all pci=realloc pci=nocrs pci=assign-busses"
names = st.sampled_from(["a", "a-b", "a_b", "quiet", "sysctl.user.max_user_namespaces", "console", "pci", "cgroup_no_v1"])
values = st.sampled_from(["", "=", "=1", "=2", "=x=y", '="a b"', '="  "'])
words = st.builds(lambda name, value: name + value, names, values)
gaps = st.text(alphabet=" \t\n", min_size=1, max_size=3)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A command line with odd blanks, doubles, quotes and sometimes a `--`."""
    text = draw(st.sampled_from(["", " ", "\t "]))
    for word in draw(st.lists(words | st.just("--"), max_size=8)):
        text += word + draw(gaps)
    return text if draw(st.booleans()) else text.rstrip()


def agree(additions: list[str]) -> list[str]:
    """The additions without those that contradict an earlier one, which `check` refuses."""
    kept: list[str] = []
    for addition in additions:
        key = Parameter(addition).key
        if key in REPEATABLE or all(Parameter(other).key != key for other in kept):
            kept.append(addition)
    return kept


def kernel_sees(text: str) -> dict[str, list[str]]:
    """What a kernel makes of a line: for each key all values in order, up to `--`."""
    seen: dict[str, list[str]] = {}
    for token in tokens(text):
        if token == "--":
            break
        seen.setdefault(Parameter(token).key, []).append(token)
    return seen


@pytest.mark.parametrize(
    ("text", "additions", "expected"),
    [
        ("", [SEED], SEED),
        (BASE, [SEED], f"{BASE} {SEED}"),
        (f"{BASE} {SEED}", [SEED], f"{BASE} {SEED}"),
        ("  a   b=1\tc ", ["b=2", "d"], "  a   b=2\tc d "),
        ("user_namespace.enable=0 x", [SEED], f"{SEED} x"),
        ("user-namespace.enable=0", [SEED], SEED),
        ("a=1 b a=2 c", ["a=3"], "a=1 b a=3 c"),
        ("a=1 a=2", ["a=1"], "a=1 a=1"),
        ("quiet", ["quiet=1"], "quiet=1"),
        (NVIDIA, ["pci=nocrs", "pci=noaer"], f"{NVIDIA} pci=noaer"),
        ("console=ttyS0", ["console=hvc0"], "console=ttyS0 console=hvc0"),
        ("systemd.mask=a", ["systemd.mask=b", "systemd.mask=a"], "systemd.mask=a systemd.mask=b"),
        ("modprobe.blacklist=nouveau", ["modprobe.blacklist=floppy"], "modprobe.blacklist=nouveau modprobe.blacklist=floppy"),
        ("systemd.set-credential=a:b", ["systemd.set_credential=c:d"], "systemd.set-credential=a:b systemd.set_credential=c:d"),
        ('dm-mod.create="a  b=1" b=1', ["b=2"], 'dm-mod.create="a  b=1" b=2'),
        ('dm_mod.create="a  b"', ['dm-mod.create="c d"'], 'dm-mod.create="c d"'),
        ("sysctl/user/max_user_namespaces=0", ["sysctl.user.max_user_namespaces=9"], "sysctl.user.max_user_namespaces=9"),
        ("sysctl.net.a-b=1", ["sysctl.net.a_b=2"], "sysctl.net.a-b=1 sysctl.net.a_b=2"),
        ("a -- b", ["b=1"], "a b=1 -- b"),
        ("-- b", ["c"], "c -- b"),
        ("Quiet", ["quiet"], "Quiet quiet"),
    ],
)
def test_merge(text: str, additions: list[str], expected: str) -> None:
    assert merge(text, additions) == expected


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(st.text(alphabet=' \t\n\r\v\f"=-_.aé\x00', max_size=40) | st.text() | lines())
def test_format_undoes_parse_on_every_text(text: str) -> None:
    assert format(parse(text)) == text
    assert all(parameter.text for parameter in parse(text)[:-1])


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(lines(), st.lists(words, max_size=5).map(agree))
def test_merge_is_idempotent_effective_and_leaves_the_rest(text: str, additions: list[str]) -> None:
    merged = merge(text, additions)
    assert merge(merged, additions) == merged
    before, after = kernel_sees(text), kernel_sees(merged)
    ours = {Parameter(addition).key for addition in additions}
    for addition in additions:
        key = Parameter(addition).key
        assert addition in after[key] if key in REPEATABLE else after[key][-1] == addition
    for key, seen in before.items():
        if key not in ours:
            assert after[key] == seen
        elif key in REPEATABLE:
            assert after[key][: len(seen)] == seen
    _, mark, tail = text.partition("--")
    if mark:
        assert merged.endswith(mark + tail)


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(lines(), st.lists(words, max_size=5).map(agree))
def test_unmerge_gives_the_base_back(base: str, ours: list[str]) -> None:
    fresh = [token for token in ours if token not in tokens(base)]
    assert tokens(unmerge(merge(base, fresh), base, fresh)) == tokens(base)


def test_unmerge_keeps_what_somebody_added_and_brings_back_what_was_replaced() -> None:
    base, ours = "quiet=1 b", ["quiet=2", "c"]
    edited = merge(base, ours) + " theirs"
    assert unmerge(edited, base, ours) == "quiet=1 b theirs"
    assert unmerge("c b", "b", ["c"]) == "b"


def test_an_unbalanced_base_is_refused_because_it_swallows_what_is_added() -> None:
    with pytest.raises(NodeError) as caught:
        merge('a="b', [SEED])
    assert caught.value.code == "bad-kernel-parameter" and 'a="b' in caught.value.message


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("a=\x00", "control character"),
        ("a=1\n", "control character"),
        ("a\tb", "control character"),
        ("a=\x7f", "control character"),
        ("a=é", "outside ASCII"),
        ('a="b', "unbalanced"),
        ("console=", "no value after its ="),
        ("", "empty"),
        (" a", "blank"),
        ("a ", "blank"),
        ("a b", "more than one"),
        ("=1", "no name"),
        ("--", "init"),
    ],
)
def test_what_no_guest_can_be_given_is_refused_with_its_reason(parameter: str, reason: str) -> None:
    with pytest.raises(NodeError) as caught:
        check([SEED, parameter])
    assert caught.value.code == "bad-kernel-parameter"
    assert reason in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("parameter", [SEED, "quiet", 'a="b c"', '"a=b c"', "a.b-c=1,2", "x=--", 'a=""', '"a="', "a==", "a"])
def test_what_a_guest_can_be_given_is_not_refused(parameter: str) -> None:
    check([parameter])
    assert tokens(merge(BASE, [parameter]))[-1] == parameter


def test_one_key_with_two_values_is_refused_unless_it_may_stand_twice() -> None:
    with pytest.raises(NodeError, match=r"user-namespace\.enable .*twice.*enable=1.*enable=0"):
        check([SEED, "user-namespace.enable=0"])
    check([SEED, SEED, "console=ttyS0", "console=hvc0"])


@pytest.mark.parametrize(
    ("text", "expected", "replaced"),
    [
        ("a=1 a=2", ["a=1"], {"a=1": "a=2"}),
        ("a=1 quiet a=2 a=1", ["a=1"], {}),
        ("a-b=1 quiet a_b=1", ["a-b=1"], {}),
        ("a-b=1 a_b", ["a-b=1"], {"a-b=1": "a_b"}),
        ("a=1 -- a=2", ["a=1"], {}),
        ("sysctl.user.x=1 sysctl/user/x=0", ["sysctl.user.x=1"], {"sysctl.user.x=1": "sysctl/user/x=0"}),
        ("console=ttyS0 console=hvc0 pci=off pci=realloc", ["console=ttyS0", "pci=off"], {}),
        ("quiet", ["a=1"], {}),
        ("", ["a=1"], {}),
    ],
)
def test_a_parameter_that_a_later_one_replaces_is_found(text: str, expected: list[str], replaced: dict[str, str]) -> None:
    assert replacements(text, expected) == replaced


def test_the_last_byte_that_fits_is_taken_and_the_next_refused_with_the_numbers() -> None:
    room = command_line_budget()
    assert room == MAX_COMMAND_LINE - KATA_ADDS == 2047 - 640
    check(["a" * room])
    check(["a" * (room - len(BASE) - 1)], BASE)
    for additions, base in ((["a" * (room + 1)], ""), (["a" * (room - len(BASE))], BASE)):
        with pytest.raises(NodeError) as caught:
            check(additions, base)
        assert caught.value.code == "kernel-parameters-too-long"
        assert str(room + 1) in caught.value.message and str(room) in caught.value.message
        assert "by 1 bytes" in caught.value.remedy


def test_inert_parameters_are_reported_with_what_works() -> None:
    assert "sysctl.user.max_user_namespaces" in str(inert(SEED))
    assert inert("user-namespace.enable=1") == inert(SEED)
    assert inert("namespace.unpriv_enable=1") and inert("sysctl.kernel.unprivileged_userns_clone=1")
    assert inert("sysctl.user.max_user_namespaces=1000") is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0", "forbids"),
        ("00", "forbids"),
        ("0x0", "forbids"),
        ("many", "not a number"),
        ("", "not a number"),
        ("08", "not a number"),
        ("-1", "not a number"),
        ("2147483648", "not a number up to 2147483647"),
        ("9" * 5000, "not a number"),
    ],
)
def test_a_limit_that_forbids_or_is_ignored_is_noted(value: str, message: str) -> None:
    assert message in str(note(f"sysctl.user.max_user_namespaces={value}"))
    for limit in ("15000", "0x100", "017", "2147483647"):
        assert note(f"sysctl.user.max_user_namespaces={limit}") is None
    assert note("quiet=0") is None
