package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// written makes a configuration whose files exist, with more lines in [hypervisor.qemu], and drop-ins by name.
func written(t *testing.T, more string, dropIns map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"qemu", "kernel", "initrd", "other"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(folder, "configuration.toml")
	text := "[hypervisor.qemu]\npath = \"DIR/qemu\"\nkernel = \"DIR/kernel\"\ninitrd = \"DIR/initrd\"\n" +
		"kernel_params = \"base=1\"\n" + more + "\n[agent.kata]\ndial_timeout = 7\n"
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", folder)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(file, text)
	if dropIns != nil {
		if err := os.Mkdir(filepath.Join(folder, "config.d"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range dropIns {
		write(filepath.Join(folder, "config.d", name), text)
	}
	return file
}

func TestTheLastDropInReplacesOneKeyAndKeepsTheOthers(t *testing.T) {
	file := written(t, "default_memory = 512", map[string]string{
		"50-a.toml":   "[hypervisor.qemu]\nkernel_params = \"first=1\"\n",
		"60-b.unused": "[hypervisor.qemu]\nkernel_params = \"last=1\"\n[agent.kata]\n",
	})
	config, err := loadConfiguration(file)
	if err != nil {
		t.Fatal(err)
	}
	table := config.Hypervisor["qemu"]
	if table.KernelParams != "last=1" || table.Memory != 512 || table.Initrd == "" || config.dialTimeout() != 7*time.Second {
		t.Errorf("%+v, %s", table, config.dialTimeout())
	}
}

func TestOnlyAnOwnTableAsksForAnEmulatedGuest(t *testing.T) {
	for emulated, dropIns := range map[bool]map[string]string{
		true:  {"60-a": "[stand_in]\nemulated = true\n", "70-b": "[agent.kata]\n"},
		false: {"60-a": "[agent.kata]\n"},
	} {
		config, err := loadConfiguration(written(t, "", dropIns))
		if err != nil {
			t.Fatal(err)
		}
		if config.StandIn.Emulated != emulated {
			t.Errorf("%v: %+v", emulated, config)
		}
	}
}

func TestWhatKataRefusesIsRefusedInItsWords(t *testing.T) {
	for words, file := range map[string]string{
		"other2 does not exist":                                 written(t, "image = \"DIR/other2\"", nil),
		"having both an image and an initrd":                    written(t, "image = \"DIR/other\"", nil),
		"error decoding file":                                   written(t, "", map[string]string{"a": "not toml"}),
		"incompatible types: TOML value has type []any":         written(t, "machine_type = [1]", nil),
		"toml: line 6":                                          written(t, "machine_type = x", nil),
		"Cannot find usable config file (file /nowhere/c.toml ": "/nowhere/c.toml",
	} {
		if _, err := loadConfiguration(file); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in: %v", words, err)
		}
	}
}

func TestADeletedFolderNeverTakesTheFilesMountedInIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	source, folder := t.TempDir(), filepath.Join(t.TempDir(), "guest")
	if err := os.WriteFile(filepath.Join(source, "kept"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := bind(source, filepath.Join(folder, name)); err != nil {
			t.Skipf("no mounts here: %v", err)
		}
	}
	if err := removeMounted(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder stays: %v", err)
	}
	if _, err := os.Stat(filepath.Join(source, "kept")); err != nil {
		t.Errorf("a mounted file is lost: %v", err)
	}
}
