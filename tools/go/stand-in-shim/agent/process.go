package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"stand-in-shim/wire"
)

// Names under which this program starts itself.
const (
	containerName = "stand-in-container" // the first process of a container, before it becomes the container's program
	joinName      = "stand-in-join"      // enters a container's namespaces and stays beside what it starts there
	execName      = "stand-in-exec"      // in them, before it becomes the program
)

// Descriptors that those are started with.
const (
	planFD   = 3
	gateFD   = 4
	statusFD = 5
)

// plan is what a new process of a container is told.
type plan struct {
	Spec   *specs.Spec    `json:",omitempty"`
	Rootfs string         `json:",omitempty"`
	Proc   *specs.Process `json:",omitempty"`
	Target int            `json:",omitempty"`
}

type process struct {
	pid      int
	terminal bool
	stdin    *os.File // write end, or the terminal's master
	stdout   *os.File // read end, or the terminal's master
	stderr   *os.File
	gate     *os.File
	status   *os.File
	exited   chan struct{}
	code     int
}

type container struct {
	spec      *specs.Spec
	processes map[string]*process // by exec id; the first under ""
}

type agent struct {
	mutex      sync.Mutex
	shared     bool
	network    [][]byte
	containers map[string]*container
}

// share mounts what the node shares, for the first container and no sooner, as the genuine agent does: a guest that is booted
// without that device must not end because of it.
func (a *agent) share() error {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.shared {
		return nil
	}
	err := mountAll([]mount{{wire.Tag, wire.Share, "virtiofs", 0, ""}})
	a.shared = err == nil
	return err
}

func (a *agent) answer(conn wire.Conn) {
	defer conn.Close()
	var request wire.Request
	if err := wire.Read(conn, &request); err != nil {
		return
	}
	answer := wire.Answer{}
	stream, err := a.do(&request, &answer)
	if err != nil {
		answer.Error = err.Error()
	}
	if wire.Write(conn, answer) == nil && stream != nil {
		stream(conn)
	}
}

// do carries a request out; a function that it returns is to have the connection after the answer.
func (a *agent) do(request *wire.Request, answer *wire.Answer) (func(wire.Conn), error) {
	switch request.Do {
	case wire.Sandbox:
		return nil, unix.Sethostname([]byte(request.Hostname))
	case wire.Interface:
		return nil, join(a.network, request.Link)
	case wire.Create:
		return nil, a.create(request)
	case wire.Exec:
		return nil, a.exec(request)
	case wire.Remove:
		a.mutex.Lock()
		defer a.mutex.Unlock()
		if there := a.containers[request.Container]; there != nil && request.Exec != "" {
			delete(there.processes, request.Exec)
		} else {
			delete(a.containers, request.Container)
		}
		unix.Sync()
		return nil, nil
	}
	process, err := a.find(request.Container, request.Exec)
	if err != nil {
		return nil, err
	}
	switch request.Do {
	case wire.Start:
		return nil, process.start()
	case wire.Wait:
		<-process.exited
		answer.Exit = process.code
		return nil, nil
	case wire.Signal:
		return nil, a.signal(request, process)
	case wire.Resize:
		size := unix.Winsize{Col: uint16(request.Width), Row: uint16(request.Height)}
		return nil, unix.IoctlSetWinsize(int(process.stdin.Fd()), unix.TIOCSWINSZ, &size)
	case wire.Stream:
		return process.stream(request.Stream)
	}
	return nil, fmt.Errorf("the stand-in's agent does not know %q", request.Do)
}

func (a *agent) find(id, exec string) (*process, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if there := a.containers[id]; there != nil && there.processes[exec] != nil {
		return there.processes[exec], nil
	}
	return nil, fmt.Errorf("no process %q of container %q", exec, id)
}

func (a *agent) create(request *wire.Request) error {
	if err := a.share(); err != nil {
		return err
	}
	first, err := launch(containerName, request.Spec.Process, &plan{
		Spec: request.Spec, Rootfs: filepath.Join(wire.Share, request.Container, "rootfs"),
	})
	if err != nil {
		return err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.containers[request.Container] = &container{spec: request.Spec, processes: map[string]*process{"": first}}
	return nil
}

func (a *agent) exec(request *wire.Request) error {
	first, err := a.find(request.Container, "")
	if err != nil {
		return err
	}
	started, err := launch(joinName, request.Process, &plan{Proc: request.Process, Target: first.pid})
	if err != nil {
		return err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	there := a.containers[request.Container]
	if there == nil {
		return errors.New("the container is gone")
	}
	there.processes[request.Exec] = started
	return nil
}

func (a *agent) signal(request *wire.Request, target *process) error {
	// The first process of a container ends all others with it: they are of its process namespace.
	err := unix.Kill(target.pid, unix.Signal(request.Signal))
	if err == unix.ESRCH {
		return errors.New("process already finished")
	}
	return err
}

// launch starts this program as `name` up to the gate: all is set up then, and the container's program does not run yet.
func launch(name string, spec *specs.Process, what *plan) (*process, error) {
	data, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	var inherited []*os.File // closed here once the child has them
	defer func() {
		for _, file := range inherited {
			file.Close()
		}
	}()
	pipe := func() (*os.File, *os.File) {
		reader, writer, failed := os.Pipe()
		err = errors.Join(err, failed)
		return reader, writer
	}
	started := &process{terminal: spec.Terminal, exited: make(chan struct{})}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{name}, Dir: "/", SysProcAttr: &syscall.SysProcAttr{}}
	if name == containerName {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, spec.Terminal
	}
	if spec.Terminal {
		master, slave, err := openTerminal(spec.ConsoleSize)
		if err != nil {
			return nil, err
		}
		inherited = append(inherited, slave)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		started.stdin, started.stdout = master, master
	} else {
		in, stdin := pipe()
		stdout, out := pipe()
		stderr, errors := pipe()
		inherited = append(inherited, in, out, errors)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errors
		started.stdin, started.stdout, started.stderr = stdin, stdout, stderr
	}
	planReader, planWriter := pipe()
	gateReader, gate := pipe()
	status, statusWriter := pipe()
	inherited = append(inherited, planReader, gateReader, statusWriter)
	cmd.ExtraFiles = []*os.File{planReader, gateReader, statusWriter}
	started.gate, started.status = gate, status
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		planWriter.Write(data)
		planWriter.Close()
	}()
	go started.reap(cmd)
	statusWriter.Close()
	// One line: the process id when it is ready, else what went wrong.
	line, err := readLine(status)
	if err != nil {
		<-started.exited
		return nil, fmt.Errorf("the process ended before it was ready, with %d", started.code)
	}
	pid, err := strconv.Atoi(line)
	if err != nil {
		return nil, errors.New(line)
	}
	started.pid = pid
	if pid == 1 { // as the container's first process sees itself
		started.pid = cmd.Process.Pid
	}
	return started, nil
}

func readLine(from io.Reader) (string, error) {
	var line []byte
	var one [1]byte
	for {
		if _, err := io.ReadFull(from, one[:]); err != nil {
			return string(line), err
		}
		if one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[0])
	}
}

func (p *process) reap(cmd *exec.Cmd) {
	cmd.Wait()
	p.code = exitCode(cmd.ProcessState)
	unix.Sync() // what it wrote is on the node before the node hears of its end
	close(p.exited)
}

func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

func (p *process) start() error {
	if _, err := p.gate.Write([]byte("\n")); err != nil {
		return errors.New("the process ended before it was started")
	}
	p.gate.Close()
	// Closed by the kernel when the program is executed; until then it carries what went wrong.
	said, err := io.ReadAll(io.LimitReader(p.status, 4096))
	p.status.Close()
	if err == nil && len(said) > 0 {
		return errors.New(string(bytes.TrimSpace(said)))
	}
	return err
}

func (p *process) stream(name string) (func(wire.Conn), error) {
	switch name {
	case "stdin":
		return func(conn wire.Conn) {
			io.Copy(p.stdin, conn)
			if !p.terminal {
				p.stdin.Close()
			}
		}, nil
	case "stdout", "stderr":
		from := p.stdout
		if name == "stderr" {
			from = p.stderr
		}
		if from == nil {
			return nil, fmt.Errorf("the process has no %s of its own", name)
		}
		return func(conn wire.Conn) {
			io.Copy(conn, from)
			conn.CloseWrite()
		}, nil
	}
	return nil, fmt.Errorf("there is no stream %q", name)
}

func openTerminal(size *specs.Box) (*os.File, *os.File, error) {
	master, err := os.OpenFile("/dev/pts/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil && size != nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(size.Width), Row: uint16(size.Height)})
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}
