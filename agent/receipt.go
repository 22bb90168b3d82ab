package agent

import (
	"sync"
	"sync/atomic"

	"github.com/sedge-iot/sedge/devices"
)

// A receipt stands for a message until each of its deliveries is settled: done
// or stored. The last one acknowledges the message. A nil receipt is settled.
type receipt struct {
	ack   devices.Acknowledger // or nil
	load  *load                // counts it until it is settled, or nil
	size  int                  // of the message, bytes
	left  atomic.Int32
	order int64       // of the message among all that were heard
	void  atomic.Bool // some part was abandoned: the message is not acknowledged

	mu     sync.Mutex
	behind []*receipt // settled as this one is, after it; guarded by mu
	over   bool       // this one and all behind it are settled; guarded by mu
}

// newReceipt returns a receipt for a message that n have to settle.
func newReceipt(l *load, n int, ack devices.Acknowledger, size int) *receipt {
	r := &receipt{ack: ack, load: l, size: size}
	r.left.Store(int32(n))
	r.load.add(1, size)
	return r
}

// join returns a receipt that settles a and b.
func join(a, b *receipt) *receipt {
	r := &receipt{behind: []*receipt{a, b}}
	r.left.Store(1)
	return r
}

// acknowledge is a function as an Acknowledger.
type acknowledge func()

// Ack calls the function.
func (f acknowledge) Ack() { f() }

// settle notes that a part of the message is done or stored.
func (r *receipt) settle() {
	if r == nil || r.left.Add(-1) != 0 {
		return
	}
	void := r.void.Load()
	if r.ack != nil && !void {
		r.ack.Ack()
	}
	if r.load != nil {
		r.load.add(-1, -r.size)
	}
	for b := r.next(); b != nil; b = r.next() {
		if void {
			b.void.Store(true)
		}
		b.settle()
	}
}

// abandon leaves the message with the broker, whatever becomes of its other
// parts: it is not acknowledged, and comes again.
func (r *receipt) abandon() {
	if r != nil {
		r.void.Store(true)
		r.settle()
	}
}

// next takes the first receipt behind r, or closes r if there is none.
func (r *receipt) next() *receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.behind) == 0 {
		r.over = true
		return nil
	}
	b := r.behind[0]
	r.behind = r.behind[1:]
	return b
}

// holdBack returns the receipt b to be settled now, or nil if that is to wait for r,
// which may be nil. If r's message is not to be acknowledged, nor is b's.
func (r *receipt) holdBack(b *receipt) *receipt {
	if r == nil || b == nil {
		return b
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.behind = append(r.behind, b)
		return nil
	}
	if r.void.Load() {
		b.void.Store(true)
	}
	return b
}

// awaited reports whether others are settled only after r, which may be nil.
func (r *receipt) awaited() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.behind) > 0
}

// acknowledged reports whether r and all behind it are settled, and were not
// abandoned.
func (r *receipt) acknowledged() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over && !r.void.Load()
}

// settle settles all of rs.
func settle(rs []*receipt) {
	for _, r := range rs {
		r.settle()
	}
}
