package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	events "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	runtimeoptions "github.com/containerd/containerd/pkg/runtimeoptions/v1"
	"github.com/containerd/containerd/pkg/shutdown"
	"github.com/containerd/containerd/protobuf"
	"github.com/containerd/containerd/runtime"
	"github.com/containerd/containerd/runtime/v2/shim"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"stand-in-shim/wire"
)

// exitUnknown is for a process whose guest ended before it.
const exitUnknown = 255

var empty = &emptypb.Empty{}

// service is containerd's task service for one sandbox: a container, or a pod's containers.
type service struct {
	mutex      sync.Mutex
	namespace  string
	publisher  shim.Publisher
	events     chan event
	shutdown   shutdown.Service
	guest      *sandbox
	containers map[string]*container
}

type event struct {
	topic   string
	message any
}

type container struct {
	id, bundle string
	mounted    bool
	processes  map[string]*process // by exec id; the first under ""
}

// process has its standard streams as paths of FIFOs; an empty path is none.
type process struct {
	container, exec       string
	stdin, stdout, stderr string
	terminal              bool
	spec                  *specs.Process // of an exec
	status                task.Status
	streams               *streams
	opened                chan struct{} // closed once streams is there
	exited                chan struct{}
	code                  uint32
	at                    time.Time
}

func newService(ctx context.Context, publisher shim.Publisher, stop shutdown.Service) *service {
	namespace, _ := namespaces.Namespace(ctx)
	s := &service{
		namespace: namespace, publisher: publisher, events: make(chan event, 128), shutdown: stop,
		containers: map[string]*container{},
	}
	go s.forward()
	if address, err := shim.ReadAddress("address"); err == nil {
		stop.RegisterCallback(func(context.Context) error { return shim.RemoveSocket(address) })
	}
	return s
}

// RegisterTTRPC is how the shim's library finds the service.
func (s *service) RegisterTTRPC(server *ttrpc.Server) error {
	api.RegisterTaskService(server, s)
	return nil
}

func (s *service) forward() {
	ctx := namespaces.WithNamespace(context.Background(), s.namespace)
	for one := range s.events {
		if err := s.publisher.Publish(ctx, one.topic, one.message); err != nil {
			log.G(ctx).WithError(err).Error("publishing an event")
		}
	}
}

// toGRPC gives errors the codes that the genuine shim gives them (containerd-shim-v2/errors.go): Docker prints them.
func toGRPC(err error) error {
	if err == nil {
		return nil
	}
	if _, known := status.FromError(err); known {
		return err
	}
	if text := err.Error(); errors.Is(err, syscall.ENOENT) && text == syscall.ENOENT.Error() ||
		strings.Contains(text, "not found") || strings.Contains(text, "not exist") {
		return status.Error(codes.NotFound, text)
	}
	return err
}

func (s *service) find(id, exec string) (*process, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if there := s.containers[id]; there != nil && there.processes[exec] != nil {
		return there.processes[exec], nil
	}
	return nil, status.Errorf(codes.NotFound, "process %q of container %s does not exist", exec, id)
}

func (s *service) pid() uint32 {
	if s.guest == nil {
		return uint32(os.Getpid())
	}
	return uint32(s.guest.pid)
}

// configPath is what a runtime's options name; other options, such as runc's, are not for Kata and are passed over.
func configPath(options *anypb.Any) (string, error) {
	var known runtimeoptions.Options
	if options == nil || !strings.HasSuffix(options.TypeUrl, string(known.ProtoReflect().Descriptor().FullName())) {
		return "", nil
	}
	err := proto.Unmarshal(options.Value, &known)
	return known.ConfigPath, err
}

// Create boots the guest for a container of Docker or a pod's sandbox, and makes the container in it.
func (s *service) Create(ctx context.Context, r *api.CreateTaskRequest) (_ *api.CreateTaskResponse, failed error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	defer func() { failed = toGRPC(failed) }()
	data, err := os.ReadFile(filepath.Join(r.Bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, err
	}
	if r.Checkpoint != "" {
		return nil, notDone("restore checkpoints")
	}
	made := &container{id: r.ID, bundle: r.Bundle, processes: map[string]*process{"": {
		container: r.ID, stdin: r.Stdin, stdout: r.Stdout, stderr: r.Stderr, terminal: r.Terminal,
		status: task.Status_CREATED, opened: make(chan struct{}), exited: make(chan struct{}),
	}}}
	sandboxed := spec.Annotations[typeAnnotation] == "container"
	defer func() {
		if failed == nil {
			return
		}
		if !sandboxed && s.guest != nil {
			s.guest.stop()
			s.guest = nil
		}
		made.unmount()
	}()
	root := spec.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(r.Bundle, root)
	}
	if len(r.Rootfs) > 0 {
		if err := os.Mkdir(root, 0o711); err != nil && !os.IsExist(err) {
			return nil, err
		}
		var mounts []mount.Mount
		for _, one := range r.Rootfs {
			mounts = append(mounts, mount.Mount{Type: one.Type, Source: one.Source, Target: one.Target, Options: one.Options})
		}
		if err := mount.All(mounts, root); err != nil {
			return nil, err
		}
		made.mounted = true
	}
	switch {
	case sandboxed && s.guest == nil:
		return nil, errors.New("the pod's guest is not there")
	case !sandboxed:
		option, err := configPath(r.Options)
		if err != nil {
			return nil, err
		}
		config, err := loadConfiguration(option)
		if err != nil {
			return nil, err
		}
		if s.guest, err = boot(r.ID, r.Bundle, spec, config); err != nil {
			return nil, err
		}
	}
	if err := s.guest.share(r.ID, root, spec); err != nil {
		return nil, err
	}
	if _, err := s.guest.ask(wire.Request{Do: wire.Create, Container: r.ID, Spec: spec}); err != nil {
		return nil, err
	}
	s.containers[r.ID] = made
	s.events <- event{runtime.TaskCreateEventTopic, &events.TaskCreate{
		ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs, Checkpoint: r.Checkpoint, Pid: s.pid(),
		IO: &events.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	}}
	return &api.CreateTaskResponse{Pid: s.pid()}, nil
}

func (c *container) unmount() {
	if c.mounted {
		mount.UnmountAll(filepath.Join(c.bundle, "rootfs"), syscall.MNT_DETACH)
	}
}

// Start lets a created container run, or starts a further process in it.
func (s *service) Start(_ context.Context, r *api.StartRequest) (*api.StartResponse, error) {
	p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	request := wire.Request{Do: wire.Exec, Container: r.ID, Exec: r.ExecID, Process: p.spec}
	if r.ExecID != "" {
		if _, err := s.guest.ask(request); err != nil {
			return nil, toGRPC(fmt.Errorf("cannot enter container %s, with err %w", r.ID, err))
		}
	}
	// Opened for the life of the process, which is longer than this call.
	if p.streams, err = openStreams(context.Background(), s.guest, p); err != nil {
		return nil, toGRPC(err)
	}
	close(p.opened)
	request.Do, request.Process = wire.Start, nil
	if _, err := s.guest.ask(request); err != nil {
		return nil, toGRPC(err)
	}
	s.mutex.Lock()
	p.status = task.Status_RUNNING
	s.mutex.Unlock()
	if r.ExecID != "" {
		s.events <- event{runtime.TaskExecStartedEventTopic, &events.TaskExecStarted{
			ContainerID: r.ID, ExecID: r.ExecID, Pid: s.pid(),
		}}
	} else {
		s.events <- event{runtime.TaskStartEventTopic, &events.TaskStart{ContainerID: r.ID, Pid: s.pid()}}
		if r.ID == s.guest.id {
			go s.rescan()
		}
	}
	go s.watch(p)
	return &api.StartResponse{Pid: s.pid()}, nil
}

// rescan only logs what goes wrong, as the genuine shim does: a container without its network runs on.
func (s *service) rescan() {
	if err := s.guest.rescan(); err != nil {
		log.L.WithError(err).Error("async network rescan failed: container may lack networking")
	}
}

// watch tells the end of a process, after that of its output.
func (s *service) watch(p *process) {
	p.streams.wait()
	answer, err := s.guest.ask(wire.Request{Do: wire.Wait, Container: p.container, Exec: p.exec})
	code := uint32(answer.Exit)
	if err != nil {
		code = exitUnknown
	}
	s.mutex.Lock()
	p.status, p.code, p.at = task.Status_STOPPED, code, time.Now()
	s.mutex.Unlock()
	close(p.exited)
	id := p.exec
	if id == "" {
		id = p.container
	}
	s.events <- event{runtime.TaskExitEventTopic, &events.TaskExit{
		ContainerID: p.container, ID: id, Pid: s.pid(), ExitStatus: code, ExitedAt: protobuf.ToTimestamp(p.at),
	}}
	if p.container == s.guest.id && p.exec == "" {
		s.guest.stop()
	}
}

// Delete forgets a process that ended, or one that was never started.
func (s *service) Delete(_ context.Context, r *api.DeleteRequest) (*api.DeleteResponse, error) {
	p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if p.status == task.Status_RUNNING {
		return nil, status.Errorf(codes.FailedPrecondition, "process %q of container %s is running", r.ExecID, r.ID)
	}
	s.guest.ask(wire.Request{Do: wire.Remove, Container: r.ID, Exec: r.ExecID}) // a guest that is gone has forgotten it
	s.mutex.Lock()
	defer s.mutex.Unlock()
	there := s.containers[r.ID]
	if r.ExecID != "" {
		delete(there.processes, r.ExecID)
	} else {
		if r.ID == s.guest.id {
			s.guest.stop()
		} else {
			s.guest.unshare(r.ID)
		}
		there.unmount()
		delete(s.containers, r.ID)
		s.events <- event{runtime.TaskDeleteEventTopic, &events.TaskDelete{
			ContainerID: r.ID, Pid: s.pid(), ExitStatus: p.code, ExitedAt: protobuf.ToTimestamp(p.at),
		}}
	}
	return &api.DeleteResponse{Pid: s.pid(), ExitStatus: p.code, ExitedAt: protobuf.ToTimestamp(p.at)}, nil
}

// Exec notes a further process; Start starts it.
func (s *service) Exec(_ context.Context, r *api.ExecProcessRequest) (*emptypb.Empty, error) {
	if _, err := s.find(r.ID, ""); err != nil {
		return nil, err
	}
	spec := &specs.Process{}
	if err := json.Unmarshal(r.Spec.Value, spec); err != nil {
		return nil, err
	}
	spec.Terminal = r.Terminal
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.containers[r.ID].processes[r.ExecID] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "process %q of container %s exists", r.ExecID, r.ID)
	}
	s.containers[r.ID].processes[r.ExecID] = &process{
		container: r.ID, exec: r.ExecID, stdin: r.Stdin, stdout: r.Stdout, stderr: r.Stderr, terminal: r.Terminal,
		spec: spec, status: task.Status_CREATED, opened: make(chan struct{}), exited: make(chan struct{}),
	}
	s.events <- event{runtime.TaskExecAddedEventTopic, &events.TaskExecAdded{ContainerID: r.ID, ExecID: r.ExecID}}
	return empty, nil
}

// State is what the process is doing.
func (s *service) State(_ context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	answer := &api.StateResponse{
		ID: r.ID, ExecID: r.ExecID, Bundle: s.containers[r.ID].bundle, Pid: s.pid(), Status: p.status, Stdin: p.stdin,
		Stdout: p.stdout, Stderr: p.stderr, Terminal: p.terminal, ExitStatus: p.code,
	}
	if p.status == task.Status_STOPPED {
		answer.ExitedAt = protobuf.ToTimestamp(p.at)
	}
	return answer, nil
}

// Kill sends a signal to a process in the guest.
func (s *service) Kill(_ context.Context, r *api.KillRequest) (*emptypb.Empty, error) {
	p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.exited:
		return nil, status.Error(codes.NotFound, "process already finished")
	default:
	}
	_, err = s.guest.ask(wire.Request{Do: wire.Signal, Container: r.ID, Exec: r.ExecID, Signal: int(r.Signal)})
	if err != nil && strings.Contains(err.Error(), "already finished") {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	return empty, toGRPC(err)
}

// Wait returns when the process has ended.
func (s *service) Wait(ctx context.Context, r *api.WaitRequest) (*api.WaitResponse, error) {
	p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.exited:
		return &api.WaitResponse{ExitStatus: p.code, ExitedAt: protobuf.ToTimestamp(p.at)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ResizePty sets the size of a process's terminal.
func (s *service) ResizePty(_ context.Context, r *api.ResizePtyRequest) (*emptypb.Empty, error) {
	p, err := s.find(r.ID, r.ExecID)
	if err != nil || !p.terminal || p.status != task.Status_RUNNING {
		return empty, err
	}
	_, err = s.guest.ask(wire.Request{Do: wire.Resize, Container: r.ID, Exec: r.ExecID, Width: r.Width, Height: r.Height})
	return empty, toGRPC(err)
}

// CloseIO ends standard input. It can come while Start opens the streams: what is written goes through as soon as the first
// of them is open.
func (s *service) CloseIO(ctx context.Context, r *api.CloseIORequest) (*emptypb.Empty, error) {
	p, err := s.find(r.ID, r.ExecID)
	if err != nil || !r.Stdin {
		return empty, err
	}
	select {
	case <-p.opened:
		return empty, toGRPC(p.streams.closeStdin())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Pids names QEMU's process: those in the guest have none on the node.
func (s *service) Pids(context.Context, *api.PidsRequest) (*api.PidsResponse, error) {
	return &api.PidsResponse{Processes: []*task.ProcessInfo{{Pid: s.pid()}}}, nil
}

// Connect says who serves.
func (s *service) Connect(context.Context, *api.ConnectRequest) (*api.ConnectResponse, error) {
	return &api.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: s.pid()}, nil
}

// Shutdown ends the shim once it serves nothing.
func (s *service) Shutdown(context.Context, *api.ShutdownRequest) (*emptypb.Empty, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.containers) == 0 {
		if s.guest != nil {
			s.guest.stop()
		}
		s.shutdown.Shutdown()
	}
	return empty, nil
}

func notDone(what string) error {
	return status.Errorf(codes.Unimplemented, "the stand-in for Kata's shim does not %s", what)
}

// Pause is not done.
func (s *service) Pause(context.Context, *api.PauseRequest) (*emptypb.Empty, error) {
	return nil, notDone("pause")
}

// Resume is not done.
func (s *service) Resume(context.Context, *api.ResumeRequest) (*emptypb.Empty, error) {
	return nil, notDone("resume")
}

// Checkpoint is not done.
func (s *service) Checkpoint(context.Context, *api.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, notDone("checkpoint")
}

// Update is not done.
func (s *service) Update(context.Context, *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	return nil, notDone("change resources")
}

// Stats is not done.
func (s *service) Stats(context.Context, *api.StatsRequest) (*api.StatsResponse, error) {
	return nil, notDone("count resources")
}
