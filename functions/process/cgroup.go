package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxTasks is how many threads a runner may have. Go makes one per blocked
// system call, and a runner has few.
const maxTasks = 64

// groups makes control groups below the agent's own. The folders are
//
//	OWN/sedge-PID/N   N numbers the runners, PID is the agent's
//
// in the memory and the pids hierarchy of version 1, or in the one of version 2.
type groups struct {
	memory, pids string // folders that hold the runners' groups; the same one on version 2
	unified      bool   // version 2
}

// openGroups returns nil and the reason if there are no control groups to be had.
func openGroups(refuse bool) (*groups, string) {
	if refuse {
		return nil, "turned off"
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err.Error()
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err.Error()
	}
	at := locate(string(mounts), string(own))
	g := &groups{memory: at["memory"], pids: at["pids"]}
	if g.memory == "" && at[""] != "" {
		g.memory, g.pids, g.unified = at[""], at[""], true
	}
	if g.memory == "" || g.pids == "" {
		return nil, "the kernel offers none"
	}
	if g.unified {
		if err := delegate(g.memory); err != nil {
			return nil, err.Error()
		}
	}
	if why := g.prepare(); why != "" {
		return nil, why
	}
	return g, ""
}

// locate returns the folder of the process's own group by controller; version 2's
// is under "". mounts is a /proc/PID/mountinfo, own a /proc/PID/cgroup.
func locate(mounts, own string) map[string]string {
	points := map[string][2]string{} // mount point and its root, by controller
	for l := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(l, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		switch right[0] {
		case "cgroup2":
			points[""] = [2]string{left[4], left[3]}
		case "cgroup":
			for _, c := range strings.Split(right[2], ",") {
				points[c] = [2]string{left[4], left[3]}
			}
		}
	}
	at := map[string]string{}
	for l := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(l), ":", 3)
		if len(f) < 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			if p, ok := points[c]; ok {
				at[c] = filepath.Join(p[0], strings.TrimPrefix(f[2], p[1]))
			}
		}
	}
	return at
}

// delegate makes the controllers of a version 2 group available to groups below
// it. A group with processes of its own cannot do that, so the agent moves to
// one below, if it is alone.
func delegate(own string) error {
	control := filepath.Join(own, "cgroup.subtree_control")
	enable := func() error { return os.WriteFile(control, []byte("+memory +pids"), 0) }
	err := enable()
	if !errors.Is(err, syscall.EBUSY) {
		return err
	}
	procs, err := os.ReadFile(filepath.Join(own, "cgroup.procs"))
	if err != nil {
		return err
	}
	self := strconv.Itoa(os.Getpid())
	if strings.TrimSpace(string(procs)) != self {
		return fmt.Errorf("%s holds other processes too", own)
	}
	leaf := filepath.Join(own, "sedge-agent")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(self), 0); err != nil {
		return err
	}
	return enable()
}

// prepare makes the agent's folders, and sweeps those of agents that are gone.
// It returns why not, or "".
func (g *groups) prepare() string {
	name := "sedge-" + strconv.Itoa(os.Getpid())
	for _, folder := range []*string{&g.memory, &g.pids} {
		if filepath.Base(*folder) == name {
			continue // version 2: done
		}
		sweep(*folder)
		at := filepath.Join(*folder, name)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err.Error()
		}
		if g.unified {
			if err := os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+memory +pids"), 0); err != nil {
				return err.Error()
			}
			g.memory, g.pids = at, at
			break
		}
		*folder = at
	}
	return ""
}

// sweep removes what agents left that were killed. Their runners died with them.
func sweep(own string) {
	left, _ := filepath.Glob(filepath.Join(own, "sedge-[0-9]*"))
	for _, folder := range left {
		pid := strings.TrimPrefix(filepath.Base(folder), "sedge-")
		if _, err := os.Stat("/proc/" + pid); err == nil {
			continue
		}
		below, _ := filepath.Glob(filepath.Join(folder, "[0-9]*"))
		for _, b := range below {
			os.Remove(b)
		}
		os.Remove(folder)
	}
}

// close removes the agent's folders; every group in them has been removed.
func (g *groups) close() {
	os.Remove(g.memory)
	if g.pids != g.memory {
		os.Remove(g.pids)
	}
}

// A group is the control group of one runner.
type group struct {
	memory, pids string
	unified      bool
}

// add makes a group and puts a process into it.
func (g *groups) add(n, pid int) (*group, error) {
	name := strconv.Itoa(n)
	c := &group{memory: filepath.Join(g.memory, name), pids: filepath.Join(g.pids, name), unified: g.unified}
	if err := c.fill(pid); err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

func (c *group) fill(pid int) error {
	folders := []string{c.memory, c.pids}
	if c.unified {
		folders = folders[:1]
	}
	for _, f := range folders {
		if err := os.Mkdir(f, 0o755); err != nil {
			return err
		}
	}
	if err := write(c.pids, "pids.max", strconv.Itoa(maxTasks)); err != nil {
		return err
	}
	if c.unified {
		write(c.memory, "memory.oom.group", "1") // an old kernel has none: then the process that is killed is the only one anyway
	}
	for _, f := range folders {
		if err := write(f, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// limitMemory sets the limit, bytes, and that swap is no way around it.
func (c *group) limitMemory(n int64) error {
	limit := strconv.FormatInt(n, 10)
	if c.unified {
		write(c.memory, "memory.swap.max", "0") // not there without swap accounting
		return write(c.memory, "memory.max", limit)
	}
	if err := write(c.memory, "memory.limit_in_bytes", limit); err != nil {
		return err
	}
	write(c.memory, "memory.memsw.limit_in_bytes", limit) // not there without swap accounting
	return nil
}

// oomKills returns how many processes of the group were killed for its limit.
func (c *group) oomKills() int {
	name := "memory.oom_control"
	if c.unified {
		name = "memory.events"
	}
	b, err := os.ReadFile(filepath.Join(c.memory, name))
	if err != nil {
		return 0
	}
	for l := range bytes.Lines(b) {
		if f := bytes.Fields(l); len(f) == 2 && string(f[0]) == "oom_kill" {
			n, _ := strconv.Atoi(string(f[1]))
			return n
		}
	}
	return 0
}

// remove removes the group. The kernel may need a moment after its process was
// reaped; what stays is swept when the next agent starts.
func (c *group) remove() {
	for _, f := range []string{c.memory, c.pids} {
		for range 20 {
			if err := os.Remove(f); err == nil || errors.Is(err, os.ErrNotExist) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func write(folder, name, value string) error {
	return os.WriteFile(filepath.Join(folder, name), []byte(value), 0)
}
