package main

import (
	"os"
	"testing"
)

func TestNoLinkOfAnImageLeadsOutOfTheContainer(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/run/x", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"var": "/run", "up": "../../../../etc", "run/self": "../up/../run"} {
		if err := os.Symlink(target, root+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/var/x": "/run/x", "/up/passwd": "/etc/passwd", "/a/../../b": "/b", "/run/self/y": "/run/y", "/": "", "/.././a": "/a",
	} {
		if got, err := inside(root, path); err != nil || got != root+want {
			t.Errorf("%s is %s (%v), not %s", path, got, err, root+want)
		}
	}
}

func TestCapabilitiesHaveTheKernelsNumbers(t *testing.T) {
	got, err := mask([]string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"})
	if want := uint64(1 | 1<<12 | 1<<21 | 1<<40); err != nil || got != want {
		t.Errorf("%x, not %x (%v)", got, want, err)
	}
	if _, err := mask([]string{"SYS_ADMIN"}); err == nil {
		t.Error("a name without CAP_ is none of a specification's")
	}
}
