package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

// A Scale is how a hub did with many nodes.
type Scale struct {
	Machine, Versions string
	Time              time.Time
	Nodes             int
	Functions         int // that each of them runs

	Empty, Full, Back Weight // of the hub: without nodes, with all of them, and with all of them after its restarts
	Peak              int64  // bytes, the most that was resident
	Simulation        int64  // bytes resident of the process of all nodes

	Join    Effort
	Deploys Deploys // to one node, of a hub of its own
	Pushes  []Push
	Idle    Quiet
	Storms  []Storm
	Profile map[string]string // of the hub, by what it was at
}

// An Effort is how long something took, the processor time it cost, and what else the
// machine had to do.
type Effort struct {
	Took       time.Duration
	Hub, Nodes time.Duration // processor time
	Load       float64       // of the machine before
}

// A Push is a change that went to all nodes.
type Push struct {
	Effort               // until the last node said to have it
	Known  time.Duration // until the hub answered that all have it
	Bytes  int           // of the function's code
}

// A Storm is a restart of the hub.
type Storm struct {
	Effort               // until the last node was connected again
	Most   time.Duration // until all but a hundredth were
	Up     time.Duration // until the hub answered
	Peak   int           // dials in the busiest tenth of a second
	Mean   float64       // dials in a tenth of a second, until all but a hundredth had come
	Failed int           // dials that led to no session
}

// A Quiet is what goes over links when nothing happens.
type Quiet struct {
	For      time.Duration
	Up, Down float64 // bytes a second for a node
	Hub      float64 // processor time for a second of time
}

// scale measures a hub with many nodes.
func scale(ctx context.Context, o options, dir string) (*Scale, error) {
	if err := allowFiles(uint64(o.nodes) + 2000); err != nil {
		return nil, err
	}
	s := &scaling{Scale: &Scale{Machine: machine(), Versions: hubVersions(ctx, o), Time: time.Now(), Nodes: o.nodes, Profile: map[string]string{}}, options: o}
	s.placed = map[string]edge.Ref{}
	err := s.run(ctx, dir)
	return s.Scale, err
}

// A scaling is a Scale being measured.
type scaling struct {
	*Scale
	options options
	hub     *hub
	fleet   *fleetProcess
	placed  map[string]edge.Ref // what all nodes are to run
}

func (s *scaling) run(ctx context.Context, dir string) (err error) {
	if s.hub, err = startHub(ctx, dir, s.options.hub); err != nil {
		return err
	}
	defer func() { s.hub.stop() }()
	for i := range 5 {
		if err := s.deploy(ctx, fmt.Sprintf("small-%d", i), 500); err != nil {
			return err
		}
		s.Functions++
	}
	if s.Empty, err = s.hub.weight(ctx); err != nil {
		return err
	}
	if err := s.join(ctx); err != nil {
		return err
	}
	defer s.fleet.stop()
	if err := s.pushes(ctx); err != nil {
		return err
	}
	if err := s.quiet(ctx); err != nil {
		return err
	}
	if err := s.weigh(ctx); err != nil {
		return err
	}
	if err := s.storms(ctx); err != nil {
		return err
	}
	_, err = s.push(ctx) // they follow still
	return err
}

// function returns one whose code has so many bytes and is new.
func function(name string, size int) (functions.Function, error) {
	text := "apiVersion: sedge.dev/v1\nkind: Function\nmetadata: {name: %s}\nspec:\n  runtime: javascript\n  source: {path: index.js}\n" +
		"  triggers: [{mqtt: {topic: \"zigbee2mqtt/{device}\"}}]\n  output: {topic: \"zigbee2mqtt/hall_lamp/set\"}\n"
	m, err := functions.Parse("", fmt.Appendf(nil, text, name))
	if err != nil {
		return functions.Function{}, err
	}
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	code := bytes.NewBufferString("export function handle(event, sedge) { return {state: \"ON\"}; }\n//")
	for code.Len() < size {
		code.WriteString(base64.StdEncoding.EncodeToString(noise[:48]) + "\n//")
		noise = noise[min(48, len(noise)-48):]
	}
	return functions.New(m, code.String()[:size])
}

// deploy makes a change of what all nodes are to run.
func (s *scaling) deploy(ctx context.Context, name string, size int) error {
	f, err := function(name, size)
	if err != nil {
		return err
	}
	s.placed[name] = edge.Ref{Name: name, Revision: f.Revision, Enabled: true}
	_, err = s.hub.client.Deploy(ctx, f, client.DeployOptions{})
	return err
}

// wanted asks who has all that it is to have.
func (s *scaling) wanted() Question {
	return Question{Digest: edge.Digest(slices.Collect(maps.Values(s.placed)))}
}

// effort begins to measure one; the function ends it.
func (s *scaling) effort() (end func(last time.Time) Effort) {
	h, f := worked(s.hub.pid()), time.Duration(0)
	if s.fleet != nil {
		f = worked(s.fleet.pid())
	}
	begun, busy := time.Now(), load()
	return func(last time.Time) Effort {
		return Effort{Took: last.Sub(begun), Hub: worked(s.hub.pid()) - h, Nodes: worked(s.fleet.pid()) - f, Load: busy}
	}
}

// rest waits until what came before is over, unless all is to be short.
func (s *scaling) rest(ctx context.Context, d time.Duration) {
	if !s.options.short {
		rest(ctx, d)
	}
}

// profile has the hub write down where its time goes from now on, under that name; the
// function waits for it.
func (s *scaling) profile(ctx context.Context, what string, seconds int) (wait func() error) {
	if s.options.short {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { // wait waits
		top, err := s.hub.top(ctx, fmt.Sprintf("profile?seconds=%d", seconds))
		s.Profile[what] = top
		done <- err
	}()
	return func() error { return <-done }
}

// join has all nodes join with one token.
func (s *scaling) join(ctx context.Context) (err error) {
	say("%d nodes join", s.Nodes)
	token, err := s.hub.client.MakeToken(ctx, edge.TokenAsk{TTL: time.Hour, Uses: s.Nodes})
	if err != nil {
		return err
	}
	end := s.effort()
	if s.fleet, err = startFleet(Fleet{URL: s.hub.link(), Token: token.Text, Nodes: s.Nodes, AtOnce: 256, Window: s.options.window}); err != nil {
		return err
	}
	profiled := s.profile(ctx, "joins", 10)
	defer func() { err = errors.Join(err, profiled()) }()
	// The last one is in step, not only connected.
	at, err := s.fleet.until(ctx, s.wanted(), 50*time.Millisecond, 5*time.Minute, s.all)
	if err != nil {
		s.fleet.stop()
		return fmt.Errorf("nodes join: %w", err)
	}
	s.Join = end(time.Unix(0, at.Last))
	say("%+v", s.Join)
	return nil
}

// all reports whether all nodes are connected and where they should be.
func (s *scaling) all(at Sight) bool { return at.Reached == s.Nodes }

// pushes deploys functions of 10 kB to all.
func (s *scaling) pushes(ctx context.Context) error {
	for i := range s.options.rounds {
		s.rest(ctx, 5*time.Second)
		p, err := s.push(ctx)
		if err != nil {
			return err
		}
		if i == 0 {
			s.Functions++
		}
		s.Pushes = append(s.Pushes, p)
		say("a change is everywhere: %+v", p)
	}
	s.rest(ctx, 5*time.Second) // one more, for the profile
	profiled := s.profile(ctx, "a change", 3)
	s.rest(ctx, 500*time.Millisecond)
	_, err := s.push(ctx)
	return errors.Join(err, profiled())
}

func (s *scaling) push(ctx context.Context) (p Push, err error) {
	p.Bytes = 10_000
	begun, end := time.Now(), s.effort()
	if err := s.deploy(ctx, "large", p.Bytes); err != nil {
		return p, err
	}
	at, err := s.fleet.until(ctx, s.wanted(), 5*time.Millisecond, time.Minute, s.all)
	if err != nil {
		return p, fmt.Errorf("a change goes to all: %w", err)
	}
	for {
		d, err := s.hub.client.Function(ctx, "large")
		if err != nil {
			return p, err
		}
		if d.Spread.Current == s.Nodes {
			break
		}
		rest(ctx, 20*time.Millisecond)
	}
	p.Known = time.Since(begun)
	p.Effort = end(time.Unix(0, at.Last))
	return p, nil
}

// quiet listens while nothing happens.
func (s *scaling) quiet(ctx context.Context) error {
	say("idle")
	s.rest(ctx, 10*time.Second) // reports of what was deployed
	end := s.effort()
	before, err := s.fleet.look(Question{})
	if err != nil {
		return err
	}
	rest(ctx, s.options.idle)
	after, err := s.fleet.look(Question{})
	if err != nil {
		return err
	}
	e := end(time.Now())
	each := func(n int64) float64 { return float64(n) / e.Took.Seconds() / float64(s.Nodes) }
	s.Idle = Quiet{For: e.Took, Up: each(after.Up - before.Up), Down: each(after.Down - before.Down), Hub: e.Hub.Seconds() / e.Took.Seconds()}
	say("%+v", s.Idle)
	s.Simulation, _ = resident(s.fleet.pid())
	return ctx.Err()
}

// weigh looks at what the hub holds with all nodes.
func (s *scaling) weigh(ctx context.Context) (err error) {
	if s.Full, err = s.hub.weight(ctx); err != nil || s.options.short {
		return err
	}
	s.Profile["memory"], err = s.hub.top(ctx, "heap?gc=1", "-sample_index=inuse_space")
	return err
}

// storms restarts the hub.
func (s *scaling) storms(ctx context.Context) error {
	for i := range s.options.storms {
		if i > 0 {
			s.rest(ctx, 65*time.Second) // what lasts a minute counts as a session
		}
		st, err := s.storm(ctx, i == s.options.storms-1)
		if err != nil {
			return err
		}
		s.Storms = append(s.Storms, st)
		say("all are back: %+v", st)
	}
	rest(ctx, s.options.idle/2)
	_, s.Peak = resident(s.hub.pid())
	var err error
	s.Back, err = s.hub.weight(ctx)
	return err
}

func (s *scaling) storm(ctx context.Context, last bool) (st Storm, err error) {
	before, err := s.fleet.look(Question{})
	if err != nil {
		return st, err
	}
	end, begun := s.effort(), time.Now()
	if err := s.hub.restart(); err != nil {
		return st, err
	}
	hub := worked(s.hub.pid())
	if err := s.hub.await(ctx, func() error { return s.hub.ready(ctx) }); err != nil {
		return st, err
	}
	st.Up = time.Since(begun)
	if last {
		profiled := s.profile(ctx, "a restart", 20)
		defer func() { err = errors.Join(err, profiled()) }()
	}
	q := Question{Since: begun.UnixNano()}
	at, err := s.fleet.until(ctx, q, 100*time.Millisecond, 5*time.Minute, func(at Sight) bool {
		return at.Connected == s.Nodes && len(at.Arrived) >= s.Nodes
	})
	if err != nil {
		return st, fmt.Errorf("nodes come back: %w", err)
	}
	slices.Sort(at.Arrived)
	st.Effort = end(time.Unix(0, at.Arrived[len(at.Arrived)-1]))
	st.Most = time.Unix(0, at.Arrived[s.Nodes-1-s.Nodes/100]).Sub(begun)
	st.Hub = worked(s.hub.pid()) - hub
	st.Peak, st.Mean = crowding(at.Dialled)
	for why, n := range at.Failed {
		st.Failed += n - before.Failed[why]
	}
	say("dials that failed: %v", at.Failed)
	return st, nil
}

// crowding returns how many times fall into the fullest tenth of a second, and how many on
// average until all but a hundredth have come.
func crowding(times []int64) (peak int, mean float64) {
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	const width = int64(100 * time.Millisecond)
	most := times[:max(1, len(times)-len(times)/100)]
	slots := make([]int, (most[len(most)-1]-most[0])/width+1)
	for _, t := range most {
		slots[(t-most[0])/width]++
	}
	return slices.Max(slots), float64(len(most)) / float64(len(slots))
}
