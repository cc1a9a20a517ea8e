package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/hashicorp/yamux"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"stand-in-shim/wire"
)

const (
	stateFolder = "/run/kata-stand-in"
	// setGuestCID is VHOST_VSOCK_SET_GUEST_CID (linux include/uapi/linux/vhost.h).
	setGuestCID = 0x4008AF60
	maxSaid     = 4096
	// answerLimit is the genuine shim's create_container_timeout.
	answerLimit = 60 * time.Second
	// emulatedCPU leaves out what makes each start of a program in an emulated guest dear, as CPUS of nodekit/host/guest.py says.
	emulatedCPU = "max,la57=off,erms=off,fsrm=off,smap=off"
)

// kernelParams are the genuine shim's own on x86-64 (virtcontainers/qemu_amd64.go, hypervisor.go); the configuration's follow.
const kernelParams = "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 " +
	"i8042.noaux=1 noreplace-smp reboot=k cryptomgr.notests net.ifnames=0 pci=lastbus=0"

// sandbox is one guest.
type sandbox struct {
	id        string
	pid       int
	cid       uint32
	serial    *yamux.Session // in the place of vsock, of an emulated guest
	joined    bool           // the guest has the container's network
	networked bool           // it is to have one
	ended     chan struct{}
	said      *tail // what QEMU printed
	code      int
	qemu      *exec.Cmd
	daemon    *exec.Cmd
	stopping  sync.Once
}

// tail keeps the last bytes that were written.
type tail struct {
	mutex sync.Mutex
	data  []byte
}

func (t *tail) Write(data []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.data = append(t.data, data...)
	if extra := len(t.data) - maxSaid; extra > 0 {
		t.data = t.data[extra:]
	}
	return len(data), nil
}

func (t *tail) String() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return strings.TrimSpace(string(t.data))
}

func folderOf(id string) string { return filepath.Join(stateFolder, filepath.Base(id)) }

func shareOf(id string) string { return filepath.Join(folderOf(id), "share") }

// removeFolder removes a guest's folder and the mounts in it.
func removeFolder(id string) error {
	if err := removeMounted(folderOf(id)); err != nil {
		return err
	}
	os.Remove(stateFolder) // stays while another guest has a folder there
	return nil
}

// boot starts the guest of a container or pod and returns when its agent answers.
func boot(id, bundle string, spec *specs.Spec, config *configuration) (_ *sandbox, failed error) {
	s := &sandbox{id: id, ended: make(chan struct{}), said: &tail{}}
	if err := os.MkdirAll(shareOf(id), 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if failed != nil {
			s.stop()
		}
	}()
	agent, err := s.connect(config)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	started := make(chan error)
	var link *wire.Link
	go func() {
		// This thread is the parent by which QEMU and virtiofsd are ended with the shim: it stays until they end.
		var err error
		link, err = s.launch(bundle, spec, config.Hypervisor["qemu"], agent)
		started <- err
		if err != nil {
			close(s.ended)
			return
		}
		s.qemu.Wait()
		s.code = s.qemu.ProcessState.ExitCode()
		s.daemon.Process.Kill()
		s.daemon.Wait()
		close(s.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	if err := s.reach(config.dialTimeout()); err != nil {
		return nil, err
	}
	if _, err := s.ask(wire.Request{Do: wire.Sandbox, Hostname: spec.Hostname}); err != nil {
		return nil, err
	}
	return s, s.give(link)
}

// give tells the guest which interface it has.
func (s *sandbox) give(link *wire.Link) error {
	if link == nil {
		return nil
	}
	_, err := s.ask(wire.Request{Do: wire.Interface, Link: link})
	s.joined = err == nil
	return err
}

// launch starts virtiofsd and QEMU in the container's network namespace.
func (s *sandbox) launch(bundle string, spec *specs.Spec, table hypervisor, agent *os.File) (*wire.Link, error) {
	runtime.LockOSThread()
	var link *wire.Link
	files := []*os.File{agent}
	own, path := networkNamespace(spec)
	if own {
		if err := enterNetwork(path); err != nil {
			return nil, err
		}
		if err := runHooks(spec, s.id, bundle); err != nil {
			return nil, err
		}
		tap, err := openTap()
		if err != nil {
			return nil, err
		}
		defer tap.Close()
		files = append(files, tap)
		if link, err = joinTap(); err != nil {
			return nil, err
		}
		s.networked = true
	}
	socket := filepath.Join(folderOf(s.id), "virtiofsd.sock")
	if err := s.serveFiles(table, socket); err != nil {
		return nil, err
	}
	s.qemu = exec.Command(table.Path, arguments(s, table, socket)...)
	s.qemu.Stdout, s.qemu.Stderr = s.said, s.said
	s.qemu.ExtraFiles = files
	s.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := s.qemu.Start(); err != nil {
		s.daemon.Process.Kill()
		s.daemon.Wait()
		return nil, err
	}
	s.pid = s.qemu.Process.Pid
	return link, nil
}

func (s *sandbox) serveFiles(table hypervisor, path string) error {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	cache := table.VirtioFSCache
	if cache == "" {
		cache = "auto"
	}
	words := append([]string{
		"--fd=3", "--shared-dir=" + shareOf(s.id), "--cache=" + cache, "--sandbox=none", "--seccomp=none", "--log-level=error",
	}, table.VirtioFSExtraArgs...)
	s.daemon = exec.Command(table.VirtioFSDaemon, words...)
	s.daemon.ExtraFiles = []*os.File{socket}
	s.daemon.Stdout, s.daemon.Stderr = s.said, s.said
	s.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return s.daemon.Start()
}

func arguments(s *sandbox, table hypervisor, socket string) []string {
	line := kernelParams + " quiet systemd.show_status=false panic=1 nr_cpus=" + fmt.Sprint(table.VCPUs) +
		" selinux=0 scsi_mod.scan=none"
	console := []string{}
	if table.Debug {
		line = strings.Replace(line, "quiet", "console=ttyS0", 1)
		console = []string{"-serial", "file:" + filepath.Join(stateFolder, "console.log")}
	}
	cpu, acceleration := "host", "kvm"
	agent := []string{
		"-global", "kvm-pit.lost_tick_policy=discard", "-device", fmt.Sprintf("vhost-vsock-pci,guest-cid=%d,vhostfd=3", s.cid),
	}
	if s.serial != nil {
		cpu, acceleration = emulatedCPU, "tcg"
		agent = []string{
			"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3",
			"-device", "virtserialport,chardev=agent,name=" + wire.Serial,
		}
	}
	if table.CPUFeatures != "" {
		cpu += "," + table.CPUFeatures
	}
	memory := fmt.Sprintf("%dM", table.Memory)
	words := []string{
		"-name", "sandbox-" + s.id, "-machine", table.MachineType + ",accel=" + acceleration, "-cpu", cpu, "-m", memory,
		"-smp", fmt.Sprint(table.VCPUs), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
		"-object", "memory-backend-file,id=dimm1,size=" + memory + ",mem-path=/dev/shm,share=on", "-numa", "node,memdev=dimm1",
		"-rtc", "base=utc,driftfix=slew,clock=host",
		"-kernel", table.Kernel, "-initrd", table.Initrd, "-append", strings.TrimSpace(line + " " + table.KernelParams),
		"-chardev", "socket,id=share,path=" + socket,
		"-device", "vhost-user-fs-pci,chardev=share,queue-size=1024,tag=" + wire.Tag,
	}
	if s.networked {
		words = append(words, "-netdev", "tap,id=network,fd=4", "-device", "virtio-net-pci,netdev=network,romfile=")
	}
	return slices.Concat(words, agent, console)
}

// connect makes what QEMU gets as its first file: the other end of the way to the agent.
func (s *sandbox) connect(config *configuration) (*os.File, error) {
	if config.StandIn.Emulated {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		ours := os.NewFile(uintptr(pair[0]), "serial")
		defer ours.Close() // the connection has a copy
		theirs := os.NewFile(uintptr(pair[1]), "serial")
		conn, err := net.FileConn(ours)
		if err == nil {
			s.serial, err = yamux.Client(conn, wire.Multiplexing(config.dialTimeout()+answerLimit))
		}
		return theirs, err
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return nil, errors.New("failed to add any hypervisor device to devices cgroup") // resourcecontrol/cgroups.go
	}
	vsock, cid, err := guestCID()
	s.cid = cid
	return vsock, err
}

// guestCID takes a number for the guest's vsock that no other guest has.
func guestCID() (*os.File, uint32, error) {
	device, err := os.OpenFile("/dev/vhost-vsock", os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	for range 100 {
		var random [4]byte
		if _, err := rand.Read(random[:]); err != nil {
			break
		}
		cid := uint64(binary.NativeEndian.Uint32(random[:])>>1) | 0x100
		_, _, number := unix.Syscall(unix.SYS_IOCTL, device.Fd(), setGuestCID, uintptr(unsafe.Pointer(&cid)))
		if number == 0 {
			return device, uint32(cid), nil
		}
		if number != unix.EADDRINUSE {
			err = number
			break
		}
	}
	device.Close()
	return nil, 0, fmt.Errorf("no vsock number could be taken: %w", err)
}

// reach waits for the agent.
func (s *sandbox) reach(limit time.Duration) error {
	answers := s.dialed
	if s.serial != nil {
		answers = s.pinged()
	}
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(50 * time.Millisecond) {
		select {
		case <-s.ended:
			// A guest that ended by itself is waited for until the time-out, as by the genuine shim; QEMU's own refusal is reported.
			if s.code != 0 {
				return fmt.Errorf("failed to launch qemu: exit status %d, error messages from qemu log: %s", s.code, s.said)
			}
			continue
		default:
		}
		if answers() {
			return nil
		}
	}
	return fmt.Errorf("timed out connecting to vsock %d:%d", s.cid, wire.Port)
}

func (s *sandbox) dialed() bool {
	conn, err := s.dial()
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// pinged is for the serial port, which takes what is written to it before anybody reads there.
func (s *sandbox) pinged() func() bool {
	var answered atomic.Bool
	go func() {
		_, err := s.serial.Ping()
		answered.Store(err == nil)
	}()
	return answered.Load
}

func (s *sandbox) dial() (wire.Conn, error) {
	if s.serial != nil {
		opened, err := s.serial.OpenStream()
		if err != nil {
			return nil, err
		}
		return wire.NewStream(opened), nil
	}
	for {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		err = unix.Connect(fd, &unix.SockaddrVM{CID: s.cid, Port: wire.Port})
		if err == nil {
			return wire.NewConn(fd)
		}
		unix.Close(fd)
		if err != unix.EINTR { // by a signal of Go's own scheduler; an interrupted socket connects no longer
			return nil, err
		}
	}
}

// ask sends one request to the agent and returns its answer.
func (s *sandbox) ask(request wire.Request) (wire.Answer, error) {
	conn, answer, err := s.call(request)
	if err == nil {
		conn.Close()
	}
	return answer, err
}

// stream is a connection that carries one of a process's streams.
func (s *sandbox) stream(request wire.Request) (wire.Conn, error) {
	conn, _, err := s.call(request)
	return conn, err
}

func (s *sandbox) call(request wire.Request) (wire.Conn, wire.Answer, error) {
	var answer wire.Answer
	conn, err := s.dial()
	if err != nil {
		return nil, answer, fmt.Errorf("the guest's agent does not answer: %w", err)
	}
	// A nested guest can hang; only the end of a process is waited for without a limit.
	if request.Do != wire.Wait {
		err = conn.SetDeadline(time.Now().Add(answerLimit))
	}
	if err == nil {
		err = wire.Write(conn, request)
	}
	if err == nil {
		err = wire.Read(conn, &answer)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if wire.TimedOut(err) {
		err = fmt.Errorf("the guest's agent did not answer in %s: %w", answerLimit, context.DeadlineExceeded)
	}
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		conn.Close()
		return nil, answer, err
	}
	return conn, answer, nil
}

// rescan looks for a network that came after the start; nothing happens when none comes (Sandbox.RescanNetwork).
func (s *sandbox) rescan() error {
	if !s.networked || s.joined {
		return nil
	}
	if err := enterNetwork(fmt.Sprintf("/proc/%d/ns/net", s.pid)); err != nil {
		return s.unlessEnded(err) // the thread ends with this goroutine
	}
	for begin := time.Now(); time.Since(begin) < rescanTime; time.Sleep(100 * time.Millisecond) {
		select {
		case <-s.ended:
			return nil
		default:
		}
		if link, err := joinTap(); err != nil || link != nil {
			return s.unlessEnded(errors.Join(err, s.give(link)))
		}
	}
	return nil
}

// unlessEnded passes over what goes wrong because the guest has ended meanwhile.
func (s *sandbox) unlessEnded(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(time.Second):
		return err
	}
}

// stop ends the guest and removes its folder; what a process in it wrote was synchronized at its end.
func (s *sandbox) stop() {
	s.stopping.Do(func() {
		if s.pid != 0 {
			unix.Kill(s.pid, unix.SIGKILL)
			<-s.ended
		}
		if s.serial != nil {
			s.serial.Close()
		}
		removeFolder(s.id)
	})
}
