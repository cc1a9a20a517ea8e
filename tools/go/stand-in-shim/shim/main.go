// A stand-in for Kata's shim, for tests and stack `local`: containers of the runtime io.containerd.kata.v2 run in a real
// QEMU guest that Kata's configuration describes. It is not Kata Containers, and is not for use.
//
// Why it exists: Kata's own shim is not available where the tests run, and what proves a node has to be tried on containers
// that start in a guest and fail for the genuine reasons. It follows the Go shim of release 3.32 (src/runtime of
// kata-containers) in what a node's owner can see: which configuration counts, what is refused and in which words, virtio-fs,
// the agent's vsock port and time-out, the network joined by traffic control, and its fault with standard input (streams.go).
// For a machine that has neither KVM nor vhost-vsock it starts emulated guests, if its own table [stand_in] says so (config.go).
// It does not resize guests, plug in devices, pause, count resources, read annotations, boot an image, start another
// hypervisor than QEMU, or join more than one network.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/pkg/shutdown"
	"github.com/containerd/containerd/plugin"
	"github.com/containerd/containerd/runtime/v2/shim"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	name    = "io.containerd.kata.v2"
	version = "containerd-shim-kata-v2: stand-in, not Kata Containers: for the tests of kata-nodes, follows version 3.32.0"

	typeAnnotation    = "io.kubernetes.cri.container-type"
	sandboxAnnotation = "io.kubernetes.cri.sandbox-id"
)

func main() {
	if len(os.Args) == 2 && (os.Args[1] == "--version" || os.Args[1] == "-v") {
		fmt.Println(version)
		return
	}
	plugin.Register(&plugin.Registration{
		Type:     plugin.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugin.EventPlugin, plugin.InternalPlugin},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			publisher, err := ic.GetByID(plugin.EventPlugin, "publisher")
			if err != nil {
				return nil, err
			}
			stop, err := ic.GetByID(plugin.InternalPlugin, "shutdown")
			if err != nil {
				return nil, err
			}
			return newService(ic.Context, publisher.(shim.Publisher), stop.(shutdown.Service)), nil
		},
	})
	shim.RunManager(context.Background(), manager{}, func(config *shim.Config) {
		config.NoReaper = true // children are waited for where they are started
	})
}

// manager starts a shim's server and cleans up after a shim that is gone.
type manager struct{}

func (manager) Name() string { return name }

func (manager) Start(ctx context.Context, id string, opts shim.StartOpts) (_ string, failed error) {
	data, err := os.ReadFile("config.json")
	if err != nil {
		return "", err
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return "", err
	}
	group := id
	if sandbox := spec.Annotations[sandboxAnnotation]; sandbox != "" {
		group = sandbox
	}
	address, err := shim.SocketAddress(ctx, opts.Address, group)
	if err != nil {
		return "", err
	}
	socket, err := shim.NewSocket(address)
	if err != nil {
		if !shim.SocketEaddrinuse(err) {
			return "", err
		}
		if shim.CanConnect(address) { // the pod's own, which serves all its containers
			return address, shim.WriteAddress("address", address)
		}
		if err := shim.RemoveSocket(address); err != nil {
			return "", err
		}
		if socket, err = shim.NewSocket(address); err != nil {
			return "", err
		}
	}
	defer func() {
		if failed != nil {
			socket.Close()
			shim.RemoveSocket(address)
		}
	}()
	if err := shim.WriteAddress("address", address); err != nil {
		return "", err
	}
	inherited, err := socket.File()
	if err != nil {
		return "", err
	}
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	server := exec.Command(self, "-namespace", namespace, "-id", id, "-address", opts.Address)
	server.ExtraFiles = []*os.File{inherited}
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := server.Start(); err != nil {
		return "", err
	}
	if err := shim.AdjustOOMScore(server.Process.Pid); err != nil {
		server.Process.Kill()
		return "", err
	}
	return address, nil
}

// Stop removes what a shim left that was killed; its guest ended with it.
func (manager) Stop(ctx context.Context, id string) (shim.StopStatus, error) {
	return shim.StopStatus{ExitedAt: time.Now(), ExitStatus: 128 + int(syscall.SIGKILL)}, removeFolder(id)
}
