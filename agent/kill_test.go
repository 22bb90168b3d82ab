package agent

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

var kills = flag.Int("kills", 10, "how often a node is killed")

// The child is this test in a process of its own, told so by the environment.
const childVariable = "AGENT_TEST_CHILD"

// A hub leads a node from step to step: at every other one, shaky gets a revision that
// fails, and goes back to the one before by itself. Whenever the node is killed, it has
// taken a step as a whole or not at all, and each function is at what it was told or at
// what it ran before.
func TestChaosAKillLeavesTheOldRevisionsOrTheNew(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		followForEver(t)
		return
	}
	times := *kills
	if testing.Short() {
		times = 3
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, steps, hit := t.TempDir(), int64(0), map[string]int{}
	for range times {
		said := killed(t, dir, time.Duration(rng.Int64N(int64(600*time.Millisecond))))
		hit[said.doing]++
		if at := wantOldOrNew(t, dir); at < said.took {
			t.Fatalf("the node is at step %d and had taken %d", at, said.took)
		} else {
			steps = at
		}
	}
	t.Logf("%d steps; killed while it did %v", steps, hit)
	if said := killed(t, dir, time.Minute); !said.alive {
		t.Error("after the last kill the functions do not run any more")
	}
}

// said is what a child has told of itself: the last step that it has taken, what it did
// when it was killed, and whether its functions had run.
type said struct {
	took  int64
	doing string
	alive bool
}

// killed runs the child for some time, or until its functions have run if that is long,
// and kills it.
func killed(t *testing.T, dir string, after time.Duration) (s said) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env, cmd.Dir = append(os.Environ(), childVariable+"=1"), dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, syscall.ENOEXEC) {
		t.Skip("this program is emulated and cannot start itself")
	} else if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(after, func() { cmd.Process.Kill() }).Stop()
	s.doing = "start"
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "alive":
			s.alive = true
			if after >= time.Minute {
				cmd.Process.Kill()
			}
		case "took":
			if s.took, err = strconv.ParseInt(rest, 10, 64); err != nil {
				t.Fatal(err)
			}
		case "doing":
			s.doing = rest
		case "fault":
			t.Error(rest)
		}
	}
	cmd.Wait() // it says that it was killed
	return s
}

// wantOldOrNew looks at what a killed node has left, and returns its step.
func wantOldOrNew(t *testing.T, dir string) int64 {
	t.Helper()
	s, err := store.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at, err := s.Synced()
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Functions()
	if err != nil {
		t.Fatal(err)
	}
	if step := at.At.Revision; len(list) != len(at.Functions) || step > 0 && len(list) != 2 {
		t.Fatalf("at step %d there are %d functions, %d were told", step, len(list), len(at.Functions))
	}
	for i, f := range list {
		told := at.Functions[i]
		kept := f.Function.Revision == told.Revision && f.Bad == ""
		left := f.Function.Name() == "shaky" && f.Bad == told.Revision && f.Good == f.Function.Revision
		if !kept && !left {
			t.Errorf("at step %d %s is at %s (good %s, bad %s), told was %s",
				at.At.Revision, told.Name, f.Function.Revision.Short(), f.Good.Short(), f.Bad.Short(), told.Revision.Short())
		}
	}
	return at.At.Revision
}

// followForEver is the child: a node that is led on from where it is.
func followForEver(t *testing.T) {
	say := func(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }
	s, err := store.Open(".", slog.New(slog.DiscardHandler))
	if err != nil {
		say("fault open store: %v", err)
		return
	}
	box, b := newSandbox(), &bus{heard: make(chan struct{})}
	box.setMaker("steady", func(functions.Function) handler { return publishes })
	box.setMaker("shaky", func(fn functions.Function) handler {
		if n, _ := strconv.Atoi(fn.Manifest.Spec.Env["N"]); n%2 == 0 {
			return fails
		}
		return publishes
	})
	a, err := New(Config{Node: "test", Bus: b, Store: s, Sandboxes: map[string]functions.Sandbox{"process": box}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		say("fault start: %v", err)
		return
	}
	go a.Run(context.Background()) // until the process is killed
	<-b.heard
	step := a.Synced().At.Revision
	for ; ; step++ {
		if step > 0 {
			want := "good"
			if step%2 == 0 {
				want = "back"
			}
			say("doing %s", want)
			untilShown(a, b, want)
			say("alive")
		}
		say("doing apply")
		steady, shaky := build(t, "steady", version(int(step+1))), build(t, "shaky", versioned(int(step+1), "delivery: {order: none, retry: {attempts: 100, backoff: 10ms, max: 10ms}}"))
		if unfit, _, err := a.Apply(t.Context(), []edge.Definition{on(shaky), on(steady)}, nil, at(step+1, shaky, steady)); err != nil || len(unfit) > 0 {
			say("fault apply: %v, %v", unfit, err)
		}
		say("took %d", step+1)
	}
}

// untilShown lets events come until shaky is good, or back at what was good.
func untilShown(a *Agent, b *bus, want string) {
	for {
		b.say("in/x", "1")
		d := a.function("shaky").definition()
		if want == "back" && d.Bad != "" || want == "good" && d.Good == d.Function.Revision {
			return
		}
		<-time.After(time.Millisecond)
	}
}
