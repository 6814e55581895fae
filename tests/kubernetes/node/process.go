package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// start prepares a command as a container of the pod would run it: in the pod's folder, which it
// sees as /tmp as well, so that copies to and from a pod leave the host alone.
func (p *pods) start(pod, container string, command []string) *exec.Cmd {
	const enter = `mount --bind "$0" /tmp && cd /tmp && exec "$@"`
	folder := filepath.Join(p.folder, pod)
	arguments := append([]string{"--mount", "--propagation", "private", "sh", "-c", enter, folder}, command...)
	run := exec.Command("unshare", arguments...)
	run.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TERM=xterm",
		"HOSTNAME=" + filepath.Base(pod), "CONTAINER=" + container,
	}
	run.Dir = folder
	// What a process left behind may hold its output open: the answer does not wait for that.
	run.WaitDelay = time.Second
	return run
}

// ExecInContainer runs a command to its end.
func (p *pods) ExecInContainer(_ context.Context, pod, _, container string, command []string,
	in io.Reader, stdout, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	run := p.start(pod, container, command)
	if tty {
		return exitCode(terminal(run, in, stdout, resize))
	}
	if stdout != nil {
		run.Stdout = stdout
	}
	if stderr != nil {
		run.Stderr = stderr
	}
	if in != nil {
		pipe, err := run.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(pipe, in)
			pipe.Close()
		}()
	}
	return exitCode(run.Run())
}

func terminal(run *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	file, err := pty.Start(run)
	if err != nil {
		return err
	}
	defer file.Close()
	go func() {
		for size := range resize {
			pty.Setsize(file, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if in != nil {
		go io.Copy(file, in)
	}
	if out != nil {
		// Ends with an error once no process has the terminal open.
		io.Copy(out, file)
	}
	return run.Wait()
}

// exitCode makes the error that the streaming library takes exit codes from.
func exitCode(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return nil
	case !errors.As(err, &exit):
		return err
	}
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return utilexec.CodeExitError{Err: err, Code: code}
}

// process is what a container has as its command, from when the pod was seen to when it ends.
type process struct {
	stdin io.WriteCloser
	tty   bool
	done  chan struct{}
	code  int
	out   *fanout
}

// launch starts a container's own command; its output goes to the log and to whoever is attached.
func (p *pods) launch(pod, container string, command []string, tty bool) (*process, error) {
	if err := os.MkdirAll(filepath.Join(p.folder, pod), 0o755); err != nil {
		return nil, err
	}
	run := p.start(pod, container, command)
	m := &process{tty: tty, done: make(chan struct{}), out: &fanout{}}
	end := func(err error) {
		var exit utilexec.CodeExitError
		if errors.As(exitCode(err), &exit) {
			m.code = exit.Code
		} else if err != nil {
			m.code = 128
		}
		m.out.close()
		close(m.done)
	}
	if tty {
		file, err := pty.Start(run)
		if err != nil {
			return nil, err
		}
		m.stdin = file
		go func() {
			io.Copy(m.out, file)
			end(run.Wait())
			file.Close()
		}()
		return m, nil
	}
	stdin, err := run.StdinPipe()
	if err != nil {
		return nil, err
	}
	m.stdin = stdin
	run.Stdout = m.out.stream("stdout")
	run.Stderr = m.out.stream("stderr")
	if err := run.Start(); err != nil {
		return nil, err
	}
	go func() { end(run.Wait()) }()
	return m, nil
}

// AttachContainer joins a container's own command until that ends.
func (p *pods) AttachContainer(_ context.Context, pod, _, container string,
	in io.Reader, stdout, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	m := p.main(pod, container)
	if m == nil {
		return os.ErrNotExist
	}
	leave := m.out.join(stdout, stderr)
	defer leave()
	go func() {
		for size := range resize {
			if file, ok := m.stdin.(*os.File); ok && m.tty {
				pty.Setsize(file, &pty.Winsize{Rows: size.Height, Cols: size.Width})
			}
		}
	}()
	if in != nil {
		go func() {
			io.Copy(m.stdin, in)
			// As with `stdinOnce`: the first who attaches ends the input.
			if !m.tty {
				m.stdin.Close()
			}
		}()
	}
	<-m.done
	return nil
}
