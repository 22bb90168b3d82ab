package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Init is the life of a node's first process: it says an answer on tell when
// the node is ready or cannot become so, and then does what it is asked on the
// control socket until it is killed, or ctx ends.
func Init(ctx context.Context, o Options, tell *os.File) error {
	s, err := newSupervisor(o)
	if err != nil {
		return say(tell, err)
	}
	var reaper sync.WaitGroup
	reaper.Go(func() { s.children.reap(ctx) })
	defer reaper.Wait()
	l, err := net.Listen("unix", s.place.control())
	if err == nil {
		err = s.up(ctx)
	}
	if err := errors.Join(say(tell, err), err); err != nil {
		return err
	}
	return s.serve(ctx, l)
}

// An outcome is what the keeper and Up are told, once.
type outcome struct {
	Node  *Node  `json:",omitempty"`
	Error string `json:",omitempty"`
}

func say(to *os.File, problem error) error {
	var o outcome
	if problem != nil {
		o.Error = problem.Error()
	}
	return errors.Join(json.NewEncoder(to).Encode(o), to.Close())
}

// A supervisor has the components of a node.
type supervisor struct {
	options  Options
	place    place
	api      *API
	children children

	mu      sync.Mutex        // one change at a time
	running map[string]*child // guarded by mu, by component
}

func newSupervisor(o Options) (*supervisor, error) {
	p, err := o.place()
	if err != nil {
		return nil, err
	}
	groups, err := hierarchies(o.Name)
	if err != nil {
		return nil, err
	}
	if err := enter(o, p, groups); err != nil {
		return nil, err
	}
	if err := configure(o, p); err != nil {
		return nil, fmt.Errorf("configure: %w", err)
	}
	api, err := newAPI("https://127.0.0.1:"+apiPort, p.pki)
	if err != nil {
		return nil, err
	}
	return &supervisor{options: o, place: p, api: api, running: map[string]*child{},
		children: children{env: p.env(), known: map[int]*child{}}}, nil
}

// up starts all components and returns when the node is ready.
func (s *supervisor) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	began := time.Now()
	for _, step := range []struct{ launch, healthy string }{
		{"containerd", ""}, // its images come in while the API server starts
		{"kine", "kine"}, {"apiserver", "containerd"},
	} {
		if err := s.launchLocked(step.launch); err != nil {
			return err
		}
		if step.healthy == "" {
			continue
		}
		if err := s.healthyLocked(ctx, step.healthy); err != nil {
			return err
		}
	}
	for _, image := range append([]string{filepath.Join(s.place.dir, "pause.tar")}, s.options.Images...) {
		if err := s.children.run(ctx, s.log("import"), importCommand(image)...); err != nil {
			return err
		}
	}
	if err := s.healthyLocked(ctx, "apiserver"); err != nil {
		return err
	}
	for _, name := range []string{"kubelet", "controller-manager", "scheduler", "kube-proxy"} {
		if err := s.launchLocked(name); err != nil {
			return err
		}
	}
	return await(ctx, "the node", func(ctx context.Context) error { return s.api.ready(ctx, s.options.Name, began) })
}

func importCommand(tar string) []string {
	return []string{"ctr", "--namespace=k8s.io", "images", "import", "--no-unpack", tar}
}

func (s *supervisor) log(name string) string { return filepath.Join(s.place.logs(), name+".log") }

func (s *supervisor) find(name string) (component, error) {
	var names []string
	for _, c := range components(s.options, s.place, s.api) {
		if c.name == name {
			return c, nil
		}
		names = append(names, c.name)
	}
	return component{}, fmt.Errorf("no component %q: there are %v", name, names)
}

// launchLocked starts a component that does not run.
func (s *supervisor) launchLocked(name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	if one := s.running[name]; one != nil && !one.isDead() {
		return fmt.Errorf("%s runs already", name)
	}
	one, err := s.children.start(s.log(name), c.command...)
	if err == nil {
		s.running[name] = one
	}
	return err
}

// healthyLocked returns once the component that was launched is healthy, or dead.
func (s *supervisor) healthyLocked(ctx context.Context, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	one := s.running[name]
	return await(ctx, name, func(ctx context.Context) error {
		if one.isDead() {
			return hopeless{fmt.Errorf("it died, see %s", s.log(name))}
		}
		return c.healthy(ctx)
	})
}

// endLocked sends the signal and returns once the component is dead.
func (s *supervisor) endLocked(ctx context.Context, name string, sig syscall.Signal) error {
	if _, err := s.find(name); err != nil {
		return err
	}
	one := s.running[name]
	if one == nil {
		return fmt.Errorf("%s was never started", name)
	}
	if err := one.signal(sig); err != nil {
		return fmt.Errorf("end %s: %w", name, err)
	}
	select {
	case <-one.dead:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of %s: %w", name, ctx.Err())
	}
}
