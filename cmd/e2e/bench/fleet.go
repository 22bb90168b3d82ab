package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// A Fleet is nodes without agents: each has a key, a real link, a replica and what it
// reports, in one process for all.
type Fleet struct {
	URL    string  // wss://127.0.0.1:PORT/v1/link
	Token  string  // the text of a join token that is good for all
	Nodes  int     // how many
	AtOnce int     // of them join at the same time
	Window float64 // share of the usual time that they take to come back; 1 in earnest
}

// A Question is asked of a fleet, as a line of JSON.
type Question struct {
	Digest string // how many have the functions that it names, and since when
	Since  int64  // what has happened since, Unix nanoseconds; 0: nothing of that
}

// A Sight is what a fleet answers. Times are Unix nanoseconds.
type Sight struct {
	Connected int
	Reached   int            // of the connected, those that have said to have the functions
	Last      int64          // when the last of them did
	Dialled   []int64        // when dials began, since
	Arrived   []int64        // when sessions began, since
	Failed    map[string]int // dials that led to none, since the start, by why
	Up, Down  int64          // bytes that nodes have written and read, TLS and all
}

// runFleet is "bench fleet": a Fleet as JSON comes in, then a Question a line; to each goes
// out a Sight.
func runFleet(ctx context.Context, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(800) // what the nodes take of the processors, the hub does not have
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return fmt.Errorf("read fleet: %w", io.ErrUnexpectedEOF)
	}
	f := &fleet{failed: map[string]int{}}
	if err := json.Unmarshal(lines.Bytes(), &f.Fleet); err != nil {
		return fmt.Errorf("read fleet: %w", err)
	}
	if err := f.gather(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { f.run(ctx) })
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var q Question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return fmt.Errorf("read question: %w", err)
		}
		if err := answers.Encode(f.look(q)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// A fleet is a Fleet at large.
type fleet struct {
	Fleet
	nodes    []*simNode
	up, down atomic.Int64
	heard    memory

	mu      sync.Mutex
	dialled []int64        // guarded by mu
	arrived []int64        // guarded by mu
	failed  map[string]int // guarded by mu
}

// gather makes the nodes, with keys of their own.
func (f *fleet) gather() error {
	v, err := edge.ParseInvitation(f.Token)
	if err != nil {
		return err
	}
	for i := range f.Nodes {
		s, err := newSimNode(f, i, v)
		if err != nil {
			return err
		}
		f.nodes = append(f.nodes, s)
	}
	return nil
}

// run has the nodes join, so many at a time, and stay until ctx is done.
func (f *fleet) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	gate := make(chan struct{}, f.AtOnce)
	for _, s := range f.nodes {
		select {
		case gate <- struct{}{}:
		case <-ctx.Done():
			return
		}
		joined := sync.OnceFunc(func() { <-gate })
		all.Go(func() { s.run(ctx, joined) })
	}
}

// look answers a question.
func (f *fleet) look(q Question) Sight {
	v := Sight{Up: f.up.Load(), Down: f.down.Load(), Failed: map[string]int{}}
	for _, s := range f.nodes {
		if !s.connected.Load() {
			continue
		}
		v.Connected++
		if at := s.at.Load(); at != nil && *at == q.Digest {
			v.Reached++
			v.Last = max(v.Last, s.since.Load())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v.Dialled, v.Arrived = after(f.dialled, q.Since), after(f.arrived, q.Since)
	for why, n := range f.failed {
		v.Failed[why] = n
	}
	return v
}

// after returns the times since one of them; none if that is 0.
func after(times []int64, since int64) []int64 {
	if since == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(times), func(t int64) bool { return t < since })
}

func (f *fleet) dials() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dialled = append(f.dialled, time.Now().UnixNano())
}

func (f *fleet) arrives() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.arrived = append(f.arrived, time.Now().UnixNano())
}

func (f *fleet) fails(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed[why]++
}

// A memory keeps the message that came last. What the hub says to all is read by each
// node on a machine of its own; here one reads it for all, or reading would take longer
// than what is measured.
type memory struct {
	mu   sync.Mutex
	text string       // guarded by mu
	said edge.Message // guarded by mu
}

// decode is edge.Decode for a message that nobody changes.
func (m *memory) decode(data []byte) (edge.Message, error) {
	if len(data) < 1<<10 {
		return edge.Decode(data)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.text == string(data) {
		return m.said, nil
	}
	said, err := edge.Decode(data)
	if err == nil {
		m.text, m.said = string(data), said
	}
	return said, err
}

// A counted connection counts what goes over it.
type counted struct {
	net.Conn
	fleet *fleet
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.fleet.down.Add(int64(n))
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.fleet.up.Add(int64(n))
	return n, err
}

// allowFiles lets this process and those that it starts have so many files open.
func allowFiles(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("ask how many files may be open: %w", err)
	}
	if limit.Cur >= n {
		n = limit.Cur
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: max(n, limit.Max)}); err != nil {
		return fmt.Errorf("have %d files open (ulimit -n says %d): %w", n, limit.Cur, err)
	}
	return nil
}
