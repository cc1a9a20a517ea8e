package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/fifo"

	"stand-in-shim/wire"
)

// noWriter is how long to sleep where a FIFO has no writer, or none yet.
const noWriter = 20 * time.Millisecond

// streams joins a process in the guest to the FIFOs that containerd made for it.
//
// As bad as the genuine Go shim on purpose: one flag, `closed`, stands for all three streams
// (src/runtime/virtcontainers/iostream.go; kata-containers issue 13640, pull requests 13643 and 11531). Once standard input
// is closed, a read of output that is under way still delivers, and every later one is refused: output after the end of
// standard input is lost, and the exit code does not tell.
type streams struct {
	closed    atomic.Bool
	stdin     wire.Conn
	ending    atomic.Bool   // no more is written to standard input
	stdinDone chan struct{} // all that was written to it was handed on
	outputs   sync.WaitGroup
	files     []io.Closer
}

func openStreams(ctx context.Context, guest *sandbox, p *process) (*streams, error) {
	s := &streams{stdinDone: make(chan struct{})}
	request := wire.Request{Do: wire.Stream, Container: p.container, Exec: p.exec}
	if p.stdin == "" {
		close(s.stdinDone)
	} else {
		from, err := os.OpenFile(p.stdin, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, from)
		request.Stream = "stdin"
		if s.stdin, err = guest.stream(request); err != nil {
			return nil, err
		}
		go s.feed(from)
	}
	outputs := map[string]string{"stdout": p.stdout, "stderr": p.stderr}
	if p.terminal {
		delete(outputs, "stderr")
	}
	for name, path := range outputs {
		if strings.Contains(path, "://") {
			return nil, fmt.Errorf("the stand-in for Kata's shim writes to FIFOs only, not to %s", path)
		}
		to := io.WriteCloser(discard{})
		if path != "" {
			var err error
			// For reading too, so that the FIFO outlives a restart of containerd.
			if to, err = fifo.OpenFifo(ctx, path, syscall.O_RDWR, 0); err != nil {
				return nil, err
			}
		}
		request.Stream = name
		from, err := guest.stream(request)
		if err != nil {
			return nil, err
		}
		s.outputs.Add(1)
		go s.copy(to, from)
	}
	return s, nil
}

// feed hands standard input on. Docker's writer can have gone before the FIFO was opened here, or not have come yet, so that
// the FIFO has no more says nothing before containerd calls CloseIO.
func (s *streams) feed(from *os.File) {
	defer close(s.stdinDone)
	for {
		ending := s.ending.Load() // before the copy: what was written by then is copied
		if _, err := io.Copy(s.stdin, from); err != nil || ending {
			return
		}
		time.Sleep(noWriter)
	}
}

func (s *streams) copy(to io.WriteCloser, from wire.Conn) {
	defer s.outputs.Done()
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for !s.closed.Load() {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// closeStdin is what containerd's CloseIO does.
func (s *streams) closeStdin() error {
	s.ending.Store(true)
	<-s.stdinDone
	if s.stdin == nil {
		return nil
	}
	err := s.stdin.CloseWrite()
	s.closed.Store(true)
	return err
}

// wait returns when no more output comes.
func (s *streams) wait() {
	s.outputs.Wait()
	for _, file := range s.files {
		file.Close()
	}
	if s.stdin != nil {
		s.stdin.Close()
	}
}

type discard struct{}

func (discard) Write(data []byte) (int, error) { return len(data), nil }
func (discard) Close() error                   { return nil }
