package mqtttest

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// A Proxy carries TCP connections to a target, until it is told to do worse.
// Its methods may be called from several goroutines.
type Proxy struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	pairs   map[*pair]bool
	refuse  bool
	delay   time.Duration
	silent  [2]bool       // by direction
	changed chan struct{} // closed and replaced when one of the above changes
	closed  bool
}

// A Direction is that of bytes through a proxy.
type Direction int

// The directions.
const (
	ToTarget   Direction = 0
	FromTarget Direction = 1
)

// A pair is a client's connection and the one to the target.
type pair struct {
	ends [2]net.Conn
	cut  chan struct{} // closed when both are
	once sync.Once
}

func (p *pair) close() {
	p.once.Do(func() {
		close(p.cut)
		for _, end := range p.ends {
			end.Close()
		}
	})
}

// StartProxy starts a proxy that ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// NewProxy starts a proxy on a loopback port that the kernel chooses. The caller
// closes it.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{target: target, listener: l, pairs: map[*pair]bool{}, changed: make(chan struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the proxy's host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections; new ones are carried as before.
func (p *Proxy) Cut() {
	for _, pair := range p.all() {
		pair.close()
	}
}

// Silence stops carrying bytes in these directions, or in both if none is
// named, and tells no end about it: the link is half-open. Not even the closing
// of an end passes.
func (p *Proxy) Silence(directions ...Direction) {
	if len(directions) == 0 {
		directions = []Direction{ToTarget, FromTarget}
	}
	p.change(func() {
		for _, d := range directions {
			p.silent[d] = true
		}
	})
}

// Delay holds back what passes, in each direction, for d. It is not exact: what
// comes meanwhile waits on top.
func (p *Proxy) Delay(d time.Duration) { p.change(func() { p.delay = d }) }

// Refuse closes new connections as soon as they come; those that are stay.
func (p *Proxy) Refuse() { p.change(func() { p.refuse = true }) }

// Heal takes back Silence, Delay and Refuse. What was held back passes.
func (p *Proxy) Heal() {
	p.change(func() { p.silent, p.delay, p.refuse = [2]bool{}, 0, false })
}

// Close cuts all connections and returns when nothing is left of them.
func (p *Proxy) Close() {
	p.change(func() { p.closed = true })
	p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

// Connections returns how many are being carried.
func (p *Proxy) Connections() int { return len(p.all()) }

func (p *Proxy) all() []*pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pairs []*pair
	for pair := range p.pairs {
		pairs = append(pairs, pair)
	}
	return pairs
}

func (p *Proxy) change(to func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.carry(conn) })
	}
}

// carry connects conn to the target until either end closes.
func (p *Proxy) carry(conn net.Conn) {
	defer conn.Close()
	target, err := net.Dial("tcp", p.target)
	if err != nil {
		return // which the client sees as the target's refusal
	}
	pair := &pair{ends: [2]net.Conn{conn, target}, cut: make(chan struct{})}
	defer pair.close()
	if !p.add(pair) {
		return
	}
	defer p.remove(pair)
	var wg sync.WaitGroup
	for _, d := range []Direction{ToTarget, FromTarget} {
		wg.Go(func() {
			defer pair.close()
			p.pump(pair, d)
		})
	}
	wg.Wait()
}

func (p *Proxy) add(pair *pair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		return false
	}
	p.pairs[pair] = true
	return true
}

func (p *Proxy) remove(pair *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pairs, pair)
}

// pump carries bytes in one direction.
func (p *Proxy) pump(pair *pair, d Direction) {
	from, to := pair.ends[d], pair.ends[1-d]
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !p.pass(pair, d) {
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// pass waits until bytes may go on, or returns false if the pair is cut.
func (p *Proxy) pass(pair *pair, d Direction) bool {
	for waited := false; ; {
		p.mu.Lock()
		silent, delay, changed := p.silent[d], p.delay, p.changed
		p.mu.Unlock()
		if !silent && (waited || delay == 0) {
			return true
		}
		var due <-chan time.Time
		if !silent {
			due = time.After(delay)
		}
		select {
		case <-due:
			waited = true
		case <-changed:
		case <-pair.cut:
			return false
		}
	}
}
