"""What systemd reads in a service's files. Lost if these fail: the variable or the file that decides what a guest gets."""

import time

import pytest

from nodekit.rules.systemd_units import Variable, environment, in_environment_file, option, started, stops_all

NAME = "KATA_CONF_FILE"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"Environment={NAME}=/a\n", "/a"),
        (f'Environment="{NAME}=/a b" OTHER=1\n', "/a b"),
        (f"Environment=OTHER=1 '{NAME}=/a'\n", "/a"),
        (f'Environment={NAME}="/a b" OTHER=1\n', "/a b"),
        (f"Environment=OTHER=1 \\\n  # {NAME}=/old \\\n  {NAME}=/a\n", "/a"),
        (f"Environment = {NAME}=/a\nEnvironment={NAME}=/b\n", "/b"),
        (f"Environment=OTHER=1 \\\n  {NAME}=/a\n", "/a"),
        (f"Environment={NAME}=\n", ""),
        (f"Environment={NAME}=/a\nEnvironment=\n", None),
        (f"#Environment={NAME}=/a\n;Environment={NAME}=/a\n", None),
        (f"Environment=X{NAME}=/a {NAME}X=/b\nExecStart=/bin/x {NAME}=/c\n", None),
        (f"# ExecStart=/old \\\nEnvironment={NAME}=/a\n", "/a"),
        (f"[Unit]\nEnvironment={NAME}=/b\n[Service]\n  Environment={NAME}=/a\n[Install]\nEnvironment={NAME}=/c\n", "/a"),
        (f"[Unit]\nEnvironment={NAME}=/a\n", None),
    ],
)
def test_a_unit_sets_the_variable_as_systemd_reads_it(text: str, value: str | None) -> None:
    variable, named = environment([("/u", f"[Service]\n{text}")], NAME)
    assert variable == (None if value is None else Variable(value, "/u")) and named == []


def test_a_drop_in_whose_header_was_forgotten_sets_nothing() -> None:
    """systemd: "Assignment outside of section. Ignoring." Lost if this fails: parameters in a file that no shim reads."""
    text = f"Environment={NAME}=/a\nEnvironmentFile=/b\nExecStart=\nExecStart=/bin/x\nKillMode=process\n"
    assert environment([("/d", text)], NAME) == (None, []) and started([("/d", text)]) == [] and stops_all([("/d", text)])


def test_a_later_drop_in_of_a_unit_counts_more_and_files_are_listed() -> None:
    unit = f"[Service]\nEnvironment={NAME}=/a\nEnvironmentFile=/etc/first\n"
    variable, named = environment(
        [("/u", unit), ("/d", f"[Service]\nEnvironment={NAME}=/b\nEnvironmentFile=-/etc/second\n")], NAME
    )
    assert (variable, named) == (Variable("/b", "/d"), ["/etc/first", "/etc/second"])
    assert environment([("/u", unit), ("/d", "[Service]\nEnvironmentFile=\n")], NAME)[1] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"{NAME}=/a\n{NAME}=/b\n", "/b"),
        (f'{NAME}="/a b"\n', "/a b"),
        (f"{NAME}='/a'", "/a"),
        (f"  {NAME} = /a \r\n", "/a"),
        (f"{NAME}=/a # b\n", "/a # b"),
        (f"{NAME}=$DIR/a\n", "$DIR/a"),
        (f"{NAME}=/a\\\n/b\n", "/a/b"),
        (f'{NAME}="/a\\$b"\n', "/a$b"),
        (f"{NAME}=\n", ""),
        (f"{NAME}=/a\nexport {NAME}\n", "/a"),
        # systemd passes over it: "Ignoring invalid environment assignment 'export …'".
        (f"export {NAME}=/a\n", None),
        (f"OTHER=1 {NAME}=/a\n", None),
        (f"OTHER='1\n{NAME}=/a\n'\n", None),
        (f"#{NAME}=/a\n;{NAME}=/a\nX{NAME}=/a\n", None),
    ],
)
def test_an_environment_file_sets_the_variable_as_systemd_reads_it(text: str, value: str | None) -> None:
    """Lost if this fails: parameters in a file that no shim reads."""
    assert in_environment_file(text, NAME) == value


@pytest.mark.parametrize(
    ("command", "program", "config"),
    [
        ('"/usr/local/bin/containerd" "--config=/etc/c.toml"', "/usr/local/bin/containerd", "/etc/c.toml"),
        ("-/usr/bin/containerd --config '/etc/my conf/c.toml'", "/usr/bin/containerd", "/etc/my conf/c.toml"),
        ('/usr/bin/containerd -c /etc/c.toml "$CONTAINERD_OPTS"', "/usr/bin/containerd", "/etc/c.toml"),
        ("/usr/bin/containerd \\\n  -c /etc/c.toml \\\n  # -c /etc/old.toml \\\n  -l info", "/usr/bin/containerd", "/etc/c.toml"),
        ('/bin/sh -c "exec /usr/bin/containerd -c /etc/c.toml"', "/bin/sh", "/etc/c.toml"),
        ('/usr/bin/containerd -c "/etc/c.toml', "/usr/bin/containerd", "/etc/c.toml"),
        (r"/usr/bin/containerd -c /etc/my\x20c.toml -l info", "/usr/bin/containerd", r"/etc/my\x20c.toml"),
    ],
)
def test_a_unit_s_command_is_split_as_systemd_does_it(command: str, program: str, config: str) -> None:
    """Lost if this fails: a containerd that is not found, or a handler in a file that it does not read."""
    words = started([("/u", f"[Service]\nExecStart={command}\n")])
    assert (words[0], option(words, "config", "c")) == (program, config)


@pytest.mark.parametrize("text", ["\n" * 65000, "\nA=1" * 16000, f"{NAME}=a " * 7000])
def test_a_long_environment_file_is_read_in_a_moment(text: str) -> None:
    begin = time.process_time()
    in_environment_file(text, NAME)
    assert time.process_time() - begin < 2
