package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The subjects, as the report calls them.
const (
	bare     = "bare echo"
	outside  = "sedge"
	embedded = "sedge, embedded broker"
)

// A Report is everything that was measured.
type Report struct {
	Machine, Versions string
	Time              time.Time
	Options           options
	Tuned, Default    []Comparison // by the broker's settings
	Waking            Waking
	Flash             Flash
	Agent             Footprint // of sedge-agent, idle
	Idle, Loaded      Footprint // of sedge up
	Binaries          []Binary
	Profiles          map[string]string // subject → where the node's time went, at QoS 1 with 64 in flight
}

// measure runs everything, and tells how far it is.
func measure(ctx context.Context, o options) (r *Report, err error) {
	dir, err := os.MkdirTemp("", "sedge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r = &Report{Machine: machine(), Versions: versions(ctx, o), Time: time.Now(), Options: o, Profiles: map[string]string{}}
	if r.Binaries, err = binaries(o.dist); err != nil {
		return nil, err
	}
	if err := r.slim(ctx, dir); err != nil {
		return nil, err
	}
	if err := r.tuned(ctx, dir); err != nil {
		return nil, err
	}
	return r, r.asItComes(ctx, dir)
}

// slim measures the slim program with the functions that a whole node has left
// to it. It has a broker to itself, which goes on keeping its session.
func (r *Report) slim(ctx context.Context, dir string) error {
	say("memory of sedge-agent, idle")
	broker, addr, err := startMosquitto(ctx, dir, true)
	if err != nil {
		return err
	}
	defer broker.stop()
	n, _, err := startNode(ctx, dir, r.Options.program, addr, lamp, sleepy, count)
	if err != nil {
		return err
	}
	n.stop()
	agent, err := spawn(dir, r.Options.agent, "--data-dir", n.dir, "--mqtt", "mqtt://"+addr, "--http-listen", "off", "--ops-listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer agent.stop()
	rest(ctx, calm)
	select {
	case <-agent.gone:
		return fmt.Errorf("sedge-agent ended: %s", agent.said())
	default:
	}
	r.Agent, err = footprint(agent.pid())
	return err
}

// tuned measures with a broker that was set up for speed.
func (r *Report) tuned(ctx context.Context, dir string) error {
	broker, addr, err := startMosquitto(ctx, dir, true)
	if err != nil {
		return err
	}
	defer broker.stop()
	n, _, err := startNode(ctx, dir, r.Options.program, addr, lamp, sleepy, count)
	if err != nil {
		return err
	}
	defer n.stop()
	if err := r.thrift(ctx, n, addr); err != nil {
		return err
	}
	e, err := startEcho(ctx, dir, addr)
	if err != nil {
		return err
	}
	defer e.stop()
	whole, inside, err := startNode(ctx, dir, r.Options.program, "", lamp)
	if err != nil {
		return err
	}
	defer whole.stop()
	subjects := []Subject{
		{bare, addr, "echo/in", "echo/out"},
		{outside, addr, "lamp/in", "lamp/out"},
		{embedded, inside, "lamp/in", "lamp/out"},
	}
	if r.Tuned, err = r.compare(ctx, "tuned mosquitto", subjects); err != nil {
		return err
	}
	load := r.Tuned[2].Scenario.Load
	if r.Profiles[outside], err = profiled(ctx, dir, n, subjects[1], load); err != nil {
		return err
	}
	r.Profiles[embedded], err = profiled(ctx, dir, whole, subjects[2], load)
	return err
}

// asItComes measures with a broker that has its own defaults.
func (r *Report) asItComes(ctx context.Context, dir string) error {
	broker, addr, err := startMosquitto(ctx, dir, false)
	if err != nil {
		return err
	}
	defer broker.stop()
	n, _, err := startNode(ctx, dir, r.Options.program, addr, lamp)
	if err != nil {
		return err
	}
	defer n.stop()
	e, err := startEcho(ctx, dir, addr)
	if err != nil {
		return err
	}
	defer e.stop()
	subjects := []Subject{{bare, addr, "echo/in", "echo/out"}, {outside, addr, "lamp/in", "lamp/out"}}
	r.Default, err = r.compare(ctx, "mosquitto as it comes", subjects)
	return err
}

func (r *Report) compare(ctx context.Context, where string, subjects []Subject) (all []Comparison, err error) {
	for _, sc := range scenarios(r.Options) {
		say("%s: %s", where, sc.Name)
		c, err := compare(ctx, sc, subjects, r.Options.rounds)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// thrift measures what a node takes besides time.
func (r *Report) thrift(ctx context.Context, n *node, broker string) (err error) {
	say("memory, idle")
	rest(ctx, calm)
	if r.Idle, err = footprint(n.pid()); err != nil {
		return err
	}
	say("first events of a sleeping function")
	if r.Waking, err = wake(ctx, n, broker, r.Options.wakings); err != nil {
		return err
	}
	say("bytes to storage")
	if r.Flash, err = flash(ctx, r.Options, n, broker); err != nil {
		return err
	}
	say("memory, loaded")
	load := Load{Broker: broker, In: "lamp/in", Out: "lamp/out", Devices: 64, QoS: 1, Window: 256, For: 2 * r.Options.length}
	r.Loaded, err = under(ctx, n, load)
	return err
}

// profiled returns where a node's time goes under a load.
func profiled(ctx context.Context, dir string, n *node, s Subject, load Load) (string, error) {
	say("profile of %s", s.Name)
	load.Broker, load.In, load.Out = s.Broker, s.In, s.Out
	load.Warm, load.For = time.Second, 6*time.Second
	done := make(chan error, 1)
	go func() { // awaited below
		_, err := speak(ctx, load)
		done <- err
	}()
	file := filepath.Join(dir, "cpu.pprof")
	err := n.profile(ctx, 5*time.Second, file)
	if err := <-done; err != nil {
		return "", err
	}
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=15", file).Output()
	if err != nil {
		return "", fmt.Errorf("read profile: %w", err)
	}
	return string(out), nil
}

// versions names what took part.
func versions(ctx context.Context, o options) string {
	return strings.Join([]string{firstLine(ctx, o.program, "version"), firstLine(ctx, mosquitto(), "-h"), firstLine(ctx, "go", "version")}, "; ")
}

func hubVersions(ctx context.Context, o options) string {
	return firstLine(ctx, o.hub, "--version") + "; " + firstLine(ctx, "go", "version")
}

// firstLine returns the first line that a program says.
func firstLine(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput() // mosquitto -h says 3
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
