package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The programs under test.
var (
	program      = built("sedge")
	agentProgram = built("sedge-agent")
	hubProgram   = built("sedge-hub")
)

// built returns what builds a program, once, and returns its file. That "go test"
// notices a change of it is owed to the floors test, which opens all sources.
func built(name string) func() (string, error) { return stamped(name, "") }

// stamped returns what builds a program of that version.
func stamped(name, version string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		file := filepath.Join(scratch, name+version)
		build := exec.Command("go", "build", "-ldflags=-X github.com/sedge-iot/sedge/cmd/settings.stamp="+version, "-o", file, "../"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		return file, nil
	})
}

// A process is a program that is killed and started again.
type process struct {
	program func() (string, error)
	args    []string
	env     []string
	log     string    // file of what it says
	cmd     *exec.Cmd // nil while it is down
}

func (p *process) start(t *testing.T) {
	t.Helper()
	file, err := p.program()
	if err != nil {
		t.Fatal(err)
	}
	words, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer words.Close()
	p.cmd = exec.Command(file, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = words, words
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process as a power cut would.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Errorf("kill %s: %v\n%s", p.cmd.Path, err, p.words())
	}
	p.cmd.Wait() // which only says that it was killed
	p.cmd = nil
}

// stop ends the process as an operator would, and returns when it is gone.
func (p *process) stop(t *testing.T) {
	t.Helper()
	begin := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%s ended with %v, want success", p.cmd.Path, err)
	}
	if took := time.Since(begin); took > 11*time.Second {
		t.Errorf("%s took %v to end, want at most 10 s", p.cmd.Path, took)
	}
	p.cmd = nil
}

// words returns the last that the process said.
func (p *process) words() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}
