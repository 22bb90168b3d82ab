package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// outcomes is a Run that hands its outcome to a channel.
type outcomes chan functions.Outcome

func (c outcomes) Get(string) ([]byte, error)        { return nil, nil }
func (c outcomes) Peek(string) ([]byte, error)       { return nil, nil }
func (c outcomes) Publish(devices.Publication) error { return nil }
func (c outcomes) Log(functions.Level, string)       {}
func (c outcomes) Done(o functions.Outcome)          { c <- o }

// function returns a function with the given handler body.
func function(t testing.TB, body string, edits ...func(*functions.Resources)) functions.Function {
	t.Helper()
	m := lampFunction(t, 4).Manifest
	m.Spec.Resources = functions.Resources{Memory: 32 << 20, Timeout: functions.Duration(patience)}
	for _, edit := range edits {
		edit(&m.Spec.Resources)
	}
	f, err := functions.New(m, "export default function (event, sedge) {\n"+body+"\n}")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func start(t testing.TB, s *Sandbox, f functions.Function) *child {
	t.Helper()
	i, err := s.Start(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i.(*child)
}

// invoke starts a run of f on c.
func invoke(c *child, f functions.Function) outcomes {
	out := make(outcomes, 2)
	inv := motion()
	inv.Timeout = time.Duration(f.Manifest.Spec.Resources.Timeout)
	c.Invoke(inv, out)
	return out
}

func (c outcomes) wait(t testing.TB) functions.Outcome {
	t.Helper()
	select {
	case o := <-c:
		return o
	case <-time.After(patience):
		t.Fatal("no outcome came")
		return functions.Outcome{}
	}
}

// patience is how long a test waits for what must come, on however slow a machine.
const patience = time.Minute

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	clock := time.NewTicker(5 * time.Millisecond)
	defer clock.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-clock.C:
		case <-deadline:
			t.Fatalf("%s did not come about", what)
		}
	}
}

func proc(t testing.TB, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestARunnerIsConfined(t *testing.T) {
	t.Setenv("SEDGE_TOKEN", "canary-in-the-environment")
	c := start(t, open(t), function(t, ``))
	if got := proc(t, c.pid, "environ"); strings.Contains(got, "=") {
		t.Errorf("its environment is %q", got)
	}
	if got := proc(t, c.pid, "status"); !strings.Contains(got, "NoNewPrivs:\t1") {
		t.Errorf("it may gain privileges:\n%s", got)
	}
	if pgid, err := syscall.Getpgid(c.pid); err != nil || pgid != c.pid {
		t.Errorf("its process group is %d, %v, want its own, %d", pgid, err, c.pid)
	}
	if got, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", c.pid)); err != nil || got != "/" {
		t.Errorf("it works in %s, %v", got, err)
	}
	limits := strings.Join(strings.Fields(proc(t, c.pid, "limits")), " ")
	for _, want := range []string{"Max open files 64 64", "Max core file size 0 0", "Max file size 0 0"} {
		if !strings.Contains(limits, want) {
			t.Errorf("no %q in its limits: %s", want, limits)
		}
	}
	for _, fd := range files(t, c.pid) {
		// Go reads its CPU quota again now and then.
		if strings.HasPrefix(fd, "/") && fd != "/dev/null" && !strings.HasPrefix(fd, "/sys/fs/cgroup/") {
			t.Errorf("it holds %s", fd)
		}
	}
	d := c.Describe()
	if c.group != nil && !slices.Contains(d.Walls, "memory control group") || c.group == nil && len(d.Missing) == 0 {
		t.Errorf("described as %+v", d)
	}
}

// files returns what the open file descriptors of a process are.
func files(t testing.TB, pid int) (names []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		name, _ := os.Readlink(filepath.Join(dir, fd.Name()))
		names = append(names, name)
	}
	return names
}

func TestControlGroupsAreRemoved(t *testing.T) {
	var folders []string
	t.Run("while it runs", func(t *testing.T) {
		s := open(t)
		c := start(t, s, function(t, ``))
		if c.group == nil {
			t.Skip("no control groups here: ", c.missing)
		}
		folders = []string{s.groups.memory, s.groups.pids, c.group.memory, c.group.pids}
		procs, err := os.ReadFile(filepath.Join(c.group.memory, "cgroup.procs"))
		if err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(c.pid) {
			t.Errorf("the group holds %q, %v", procs, err)
		}
		stale := filepath.Join(filepath.Dir(s.groups.memory), "sedge-4194305") // over the highest pid there can be
		if err := os.MkdirAll(filepath.Join(stale, "1"), 0o755); err != nil {
			t.Fatal(err)
		}
		open(t, func(c *Config) { c.Command = []string{"/bin/false"} })
		eventually(t, "the sweep of a dead agent's groups", func() bool { _, err := os.Stat(stale); return err != nil })
	})
	for _, f := range folders {
		if _, err := os.Stat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
}

func TestARunnerDiesWithItsAgent(t *testing.T) {
	agent := exec.Command(program, "agent")
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	agent.Process.Kill()
	agent.Wait()
	eventually(t, "the runner's end", func() bool { return syscall.Kill(pid, 0) != nil || isZombie(pid) })
}

// isZombie reports whether a process has ended and is still to be reaped: by
// init, which a container may lack.
func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// agentMain is an agent that TestARunnerDiesWithItsAgent kills: its function
// runs for ever.
func agentMain() error {
	s := New(Config{Command: []string{program, "runner"}})
	ran := make(chan error, 1)
	go func() { ran <- s.Run(context.Background()) }() // ends with the process
	f, err := functions.New(functions.Manifest{
		APIVersion: functions.APIVersion,
		Kind:       "Function",
		Metadata:   functions.Metadata{Name: "endless"},
		Spec: functions.Spec{
			Runtime:  "javascript",
			Source:   functions.Source{Path: "index.js"},
			Triggers: []functions.Trigger{{MQTT: &functions.MQTTTrigger{Topic: "a"}}},
		},
	}, "export default () => { for (;;); }")
	if err != nil {
		return err
	}
	i, err := s.Start(context.Background(), f)
	if err != nil {
		return err
	}
	inv := motion()
	inv.Timeout = time.Hour
	i.Invoke(inv, make(outcomes, 1))
	fmt.Println(i.(*child).pid)
	return <-ran
}

func TestAKilledRunnerFailsItsRuns(t *testing.T) {
	f := function(t, `for (;;);`)
	c := start(t, open(t), f)
	one, two := invoke(c, f), invoke(c, f)
	syscall.Kill(c.pid, syscall.SIGKILL)
	for _, out := range []outcomes{one, two} {
		if o := out.wait(t); o.Err == nil || o.Err.Code != functions.CodeDied || o.Err.Message != "killed by signal: killed" {
			t.Errorf("got %+v", o.Err)
		}
	}
	<-c.Ended()
	if o := invoke(c, f).wait(t); o.Err == nil || o.Err.Code != functions.CodeDied {
		t.Errorf("after the end: %+v", o.Err)
	}
}

func TestARunThatCannotBeInterruptedEndsItsRunner(t *testing.T) {
	f := function(t, `if (event.attempt == 2) for (;;); return /^(?=(a+)+$)/.test("a".repeat(40) + "!")`, func(r *functions.Resources) {
		r.Timeout = functions.Duration(200 * time.Millisecond)
		r.Memory = 256 << 20
	})
	c := start(t, open(t), f)
	stuck := invoke(c, f)
	innocent := make(outcomes, 2)
	inv := motion()
	inv.Attempt, inv.Timeout = 2, time.Hour
	c.Invoke(inv, innocent)
	if o := stuck.wait(t); o.Err == nil || o.Err.Code != functions.CodeTimeout {
		t.Errorf("the stuck run: %+v", o.Err)
	}
	if o := innocent.wait(t); o.Err == nil || o.Err.Code != functions.CodeDied {
		t.Errorf("the run beside it: %+v", o.Err)
	}
}

func TestMemoryIsLimitedWithoutControlGroups(t *testing.T) {
	s := open(t, func(c *Config) { c.NoCgroups = true })
	for _, bomb := range []string{`let s = "x"; for (;;) s += s`, `const a = []; for (;;) a.push({n: a.length})`, `return "x".repeat(2 ** 29).length`} {
		f := function(t, bomb)
		c := start(t, s, f)
		o := invoke(c, f).wait(t)
		if o.Err == nil || o.Err.Code == functions.CodeDied && o.Err.Message != "killed: memory limit 32Mi" {
			t.Errorf("%s: %+v\n%s", bomb, o, &c.stderr)
		}
		if d := c.Describe(); !slices.ContainsFunc(d.Missing, func(m string) bool { return strings.HasPrefix(m, "memory and pids control groups") }) {
			t.Errorf("what is missing is not said: %+v", d)
		}
		c.Close()
	}
}

func TestCodeThatNeedsTooMuchMemoryToLoadIsUnfit(t *testing.T) {
	s := open(t)
	little := func(r *functions.Resources) { r.Memory = 8 << 20 }
	f := function(t, `return 1`, little)
	if o := invoke(start(t, s, f), f).wait(t); string(o.Returned) != "1" {
		t.Errorf("in the least memory: %+v", o)
	}
	f, err := functions.New(f.Manifest, `const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1)); export default () => 1`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Start(t.Context(), f)
	if died, ok := errors.AsType[*functions.Failure](err); !errors.Is(err, functions.ErrUnfit) || !ok || died.Message != "killed: memory limit 8Mi" {
		t.Errorf("Start = %v", err)
	}
}

func TestARunnerThatDoesNotStartIsAnError(t *testing.T) {
	for _, test := range []struct {
		command []string
		want    string
	}{
		{[]string{"/no/such/program"}, "no such file"},
		{[]string{"/bin/sh", "-c", "echo the reason >&2; exit 3"}, "the reason"},
	} {
		s := open(t, func(c *Config) { c.Command = test.command })
		ctx, stop := context.WithTimeout(t.Context(), patience)
		_, err := s.Start(ctx, function(t, ``))
		stop()
		if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, functions.ErrUnfit) {
			t.Errorf("%q: %v, want %q", test.command, err, test.want)
		}
	}
}

func TestSecretsReachOnlyTheirFunction(t *testing.T) {
	s := open(t, func(c *Config) {
		c.Secrets = func(names []string) (map[string]string, error) {
			if names[0] != "token" {
				return nil, &functions.LackError{What: "no " + names[0]}
			}
			return map[string]string{"token": "canary-of-lamp"}, nil
		}
	})
	f := function(t, `return sedge.secret("token")`)
	f.Manifest.Spec.Secrets = []string{"token"}
	c := start(t, s, f)
	if o := invoke(c, f).wait(t); string(o.Returned) != `"canary-of-lamp"` {
		t.Errorf("got %+v", o)
	}
	for _, where := range []string{"environ", "cmdline"} {
		if strings.Contains(proc(t, c.pid, where), "canary") {
			t.Errorf("the secret shows in %s", where)
		}
	}
	f.Manifest.Spec.Secrets = []string{"other"}
	_, err := s.Start(t.Context(), f)
	if lack, ok := errors.AsType[*functions.LackError](err); !ok || lack.What != "no other" || errors.Is(err, functions.ErrUnfit) {
		t.Errorf("without its secret: %v, want what it lacks", err)
	}
	_, err = open(t).Start(t.Context(), f)
	if _, ok := errors.AsType[*functions.LackError](err); !ok {
		t.Errorf("without any secrets: %v, want what it lacks", err)
	}
	f.Manifest.Spec.Secrets = nil
	c = start(t, s, f)
	if o := invoke(c, f).wait(t); o.Err == nil {
		t.Errorf("a function that names no secrets got %s", o.Returned)
	}
}
