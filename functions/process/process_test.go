package process

import (
	"context"
	"fmt"
	"log/slog"
	"os"
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
	os.Exit(m.Run())
}

// open returns a sandbox that ends with the test.
func open(t testing.TB, edits ...func(*Config)) *Sandbox {
	t.Helper()
	cfg := Config{
		Command: []string{"/proc/self/exe", "runner"},
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

func TestSandbox(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) functions.Sandbox { return open(t) })
}
