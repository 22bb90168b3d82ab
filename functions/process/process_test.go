package process

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
	"github.com/sedge-iot/sedge/functions/runner/javascript"
	"github.com/sedge-iot/sedge/functions/sandboxtest"
)

// TestMain makes the test binary a runner where it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "runner" {
		err := runner.Main(context.Background(), os.NewFile(3, "agent"), map[string]runner.Engine{"javascript": javascript.New()})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "agent" {
		fmt.Fprintln(os.Stderr, agentMain())
		os.Exit(1)
	}
	os.Exit(withProgram(m.Run))
}

const self = "/proc/self/exe"

// program is what is started as a runner.
var program = self

// withProgram runs the tests. Where this program has the race detector, its
// runners are this program without it: the detector alone needs more memory than
// they are given.
func withProgram(run func() int) int {
	info, _ := debug.ReadBuildInfo()
	if !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return run()
	}
	dir, err := os.MkdirTemp("", "sedge-process-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "runner")
	build := exec.Command("go", "test", "-c", "-o", program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		log.Fatalf("build the runner: %v\n%s", err, out)
	}
	return run()
}

// open returns a sandbox that ends with the test.
func open(t testing.TB, edits ...func(*Config)) *Sandbox {
	t.Helper()
	cfg := Config{
		Command: []string{program, "runner"},
		Logger:  slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	s := New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // the cleanup waits
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return s
}

func TestEndingWhileARunnerStartsIsNoError(t *testing.T) {
	var log bytes.Buffer // read once Run has returned
	started := filepath.Join(t.TempDir(), "started")
	s := New(Config{
		Command: []string{"/bin/sh", "-c", ": >" + started + "; exec sleep 1000"}, // it never gets ready
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // awaited below
	eventually(t, "the runner's start", func() bool { _, err := os.Stat(started); return err == nil })
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("logged:\n%s", &log)
	}
}

func TestSandbox(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) functions.Sandbox { return open(t) })
}
