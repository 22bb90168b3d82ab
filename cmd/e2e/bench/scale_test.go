package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test program be the nodes of a hub, as bench is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "fleet" {
		if err := runFleet(context.Background(), os.Stdin, os.Stdout); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestHundredsOfNodesFollowTheirHubAcrossItsDeath(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sedge-hub")
	if out, err := exec.Command("go", "build", "-o", program, "../../sedge-hub").CombinedOutput(); err != nil {
		t.Fatalf("build sedge-hub: %v: %s", err, out)
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	o := options{hub: program, nodes: 300, window: 0.1, rounds: 2, idle: time.Second, storms: 2, short: true}
	s, err := scale(ctx, o, dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Pushes) != o.rounds || len(s.Storms) != o.storms {
		t.Errorf("%d changes and %d restarts, want %d and %d", len(s.Pushes), len(s.Storms), o.rounds, o.storms)
	}
	for _, st := range s.Storms {
		if st.Peak == 0 || st.Mean <= 0 {
			t.Errorf("at a restart nobody dialled: %+v", st)
		}
	}
	if page := string(s.markdown()); !strings.Contains(page, "## Hub") || !strings.Contains(page, "all back after a restart of the hub") {
		t.Errorf("the report tells nothing of the hub:\n%s", page)
	}
}
