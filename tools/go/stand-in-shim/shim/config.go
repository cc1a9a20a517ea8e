package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// defaultFiles are those of a genuine Go shim in a release archive (src/runtime/pkg/katautils/config-settings.go.in).
var defaultFiles = []string{
	"/etc/kata-containers/configuration.toml",
	"/opt/kata/share/defaults/kata-containers/configuration.toml",
}

type configuration struct {
	Hypervisor map[string]hypervisor
	Agent      map[string]agentTable
	Runtime    struct {
		InternetworkingModel string `toml:"internetworking_model"`
	}
	// StandIn is a table of this program's own, which genuine Kata passes over.
	StandIn struct {
		// Emulated is for a machine with neither KVM nor vhost-vsock: QEMU emulates, and the agent is reached over a serial port.
		Emulated bool `toml:"emulated"`
	} `toml:"stand_in"`
}

type hypervisor struct {
	Path                 string   `toml:"path"`
	Kernel               string   `toml:"kernel"`
	Initrd               string   `toml:"initrd"`
	Image                string   `toml:"image"`
	MachineType          string   `toml:"machine_type"`
	CPUFeatures          string   `toml:"cpu_features"`
	KernelParams         string   `toml:"kernel_params"`
	VCPUs                int32    `toml:"default_vcpus"`
	Memory               uint32   `toml:"default_memory"`
	VirtioFSDaemon       string   `toml:"virtio_fs_daemon"`
	VirtioFSCache        string   `toml:"virtio_fs_cache"`
	VirtioFSExtraArgs    []string `toml:"virtio_fs_extra_args"`
	EnableAnnotations    []string `toml:"enable_annotations"`
	Debug                bool     `toml:"enable_debug"`
	DisableNestingChecks bool     `toml:"disable_nesting_checks"`
}

type agentTable struct {
	DialTimeout uint32 `toml:"dial_timeout"`
}

// loadConfiguration finds, merges and checks what the genuine shim would read, and refuses in its words
// (src/runtime/pkg/katautils/config.go and pkg/containerd-shim-v2/create.go).
func loadConfiguration(option string) (*configuration, error) {
	if option == "" {
		option = os.Getenv("KATA_CONF_FILE")
	}
	file, err := chosenFile(option)
	if err != nil {
		return nil, fmt.Errorf("Cannot find usable config file (%v)", err) //nolint // Kata's own words
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config := &configuration{}
	if _, err := toml.Decode(string(data), config); err != nil {
		return nil, err
	}
	folder := filepath.Join(filepath.Dir(file), "config.d")
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("error reading %q directory: %s", folder, err)
	}
	for _, entry := range entries { // in name order, whatever their suffix
		if err := config.merge(filepath.Join(folder, entry.Name())); err != nil {
			return nil, err
		}
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return config, nil
}

func chosenFile(option string) (string, error) {
	if option != "" {
		return resolvePath(option)
	}
	var refusals []string
	for _, file := range defaultFiles {
		resolved, err := resolvePath(file)
		if err == nil {
			return resolved, nil
		}
		refusals = append(refusals, fmt.Sprintf("config file %q unresolvable: %v", file, err))
	}
	return "", errors.New(strings.Join(refusals, ", "))
}

func resolvePath(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if os.IsNotExist(err) {
		return "", fmt.Errorf("file %v does not exist", path)
	}
	return resolved, err
}

// merge lays the keys that a drop-in has over what is there.
func (c *configuration) merge(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("error reading file %q: %s", file, err)
	}
	part := configuration{Runtime: c.Runtime, StandIn: c.StandIn}
	keys, err := toml.Decode(string(data), &part)
	if err != nil {
		return fmt.Errorf("error decoding file %q: %s", file, err)
	}
	c.Runtime, c.StandIn = part.Runtime, part.StandIn
	for name, table := range part.Hypervisor {
		merged := c.Hypervisor[name]
		overlay(&keys, &merged, &table, "hypervisor", name)
		if c.Hypervisor == nil {
			c.Hypervisor = map[string]hypervisor{}
		}
		c.Hypervisor[name] = merged
	}
	for name, table := range part.Agent {
		merged := c.Agent[name]
		overlay(&keys, &merged, &table, "agent", name)
		if c.Agent == nil {
			c.Agent = map[string]agentTable{}
		}
		c.Agent[name] = merged
	}
	return nil
}

func overlay[T any](keys *toml.MetaData, base, part *T, where ...string) {
	to, from := reflect.ValueOf(base).Elem(), reflect.ValueOf(part).Elem()
	for at := range to.NumField() {
		if keys.IsDefined(append(where, to.Type().Field(at).Tag.Get("toml"))...) {
			to.Field(at).Set(from.Field(at))
		}
	}
}

func (c *configuration) check() error {
	table, there := c.Hypervisor["qemu"]
	if !there {
		return errors.New("the stand-in for Kata's shim starts QEMU only, and this file has no [hypervisor.qemu]")
	}
	for _, path := range []*string{&table.Path, &table.Kernel, &table.Initrd, &table.Image} {
		if *path == "" {
			continue
		}
		resolved, err := resolvePath(*path)
		if err != nil {
			return err
		}
		*path = resolved
	}
	if table.Path == "" || table.Kernel == "" {
		return errors.New("the stand-in for Kata's shim knows no default path, and this file lacks the hypervisor's or the kernel's")
	}
	if table.Image != "" && table.Initrd != "" {
		return errors.New("having both an image and an initrd defined in the configuration file is not supported")
	}
	if table.Image == "" && table.Initrd == "" {
		return errors.New("image or initrd must be defined in the configuration file")
	}
	if table.Image != "" {
		return errors.New("the stand-in for Kata's shim boots an initrd only, and this file names an image")
	}
	if table.MachineType == "" {
		table.MachineType = "q35"
	}
	if table.Memory == 0 {
		table.Memory = 2048
	}
	if table.VCPUs == 0 {
		table.VCPUs = 1
	}
	if cores := int32(runtime.NumCPU()); table.VCPUs < 0 || table.VCPUs > cores {
		table.VCPUs = cores
	}
	c.Hypervisor["qemu"] = table
	return nil
}

func (c *configuration) dialTimeout() time.Duration {
	if seconds := c.Agent["kata"].DialTimeout; seconds != 0 {
		return time.Duration(seconds) * time.Second
	}
	return 45 * time.Second
}
