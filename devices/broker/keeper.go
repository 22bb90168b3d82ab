package broker

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// How long each kind of news may stay in memory.
const (
	holdTime     = 50 * time.Millisecond // a message that its subscriber may still acknowledge
	dropTime     = time.Second           // that a stored message is done with
	retainedTime = 30 * time.Second      // a retained message
	retryTime    = time.Second           // after the disk has failed
)

//go:embed schema/*.sql
var schema embed.FS

// A keeper writes to the database what must survive, several things at a time,
// and nothing that settles itself before it is due. A nil keeper keeps nothing.
type keeper struct {
	db     *sqlite.DB
	log    *slog.Logger
	retain *retained

	wake chan struct{} // holds a token when due has come nearer

	mu       sync.Mutex
	holdTime time.Duration       // guarded by mu; changed by tests
	due      time.Time           // guarded by mu; of the nearest, or zero
	held     []*parcel           // guarded by mu; to be stored unless done before
	rows     []int64             // guarded by mu; of messages to be removed
	gone     []identity          // guarded by mu; whose sessions are to be removed
	calls    []call              // guarded by mu
	topics   map[string]struct{} // guarded by mu; whose retained message has changed
	flush    time.Time           // guarded by mu; when the retained ones are due
	fault    error               // guarded by mu; why the last writing failed, or nil
}

// A call is a change that somebody waits for.
type call struct {
	write func(*sqlite.Tx) error
	done  chan<- error
}

// openKeeper opens the database in dir. One that is damaged is set aside.
func openKeeper(dir string, log *slog.Logger, retain *retained) (*keeper, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	steps, err := fs.Sub(schema, "schema")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "broker.db")
	db, err := sqlite.Open(path, steps)
	if sqlite.Damaged(err) {
		aside, errAside := sqlite.Quarantine(path, time.Now())
		if errAside != nil {
			return nil, errors.Join(err, errAside)
		}
		log.Error("the broker's database is damaged: sessions and retained messages start anew", "aside", aside, "err", err)
		db, err = sqlite.Open(path, steps)
	}
	if err != nil {
		return nil, err
	}
	return &keeper{db: db, log: log, retain: retain, wake: make(chan struct{}, 1), holdTime: holdTime, topics: map[string]struct{}{}}, nil
}

// hold has a parcel stored unless it is done soon; at once if its client is away.
func (k *keeper) hold(p *parcel, online bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p.due = time.Now()
	if online {
		p.due = p.due.Add(k.holdTime)
	}
	k.held = append(k.held, p)
	k.soonLocked(p.due)
}

// drop has a stored message removed.
func (k *keeper) drop(row int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rows = append(k.rows, row)
	k.soonLocked(time.Now().Add(dropTime))
}

// forget has a session removed with all that belongs to it.
func (k *keeper) forget(who identity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = append(k.gone, who)
	k.soonLocked(time.Now().Add(dropTime))
}

// retained notes that the retained message of topic has changed.
func (k *keeper) retained(changed bool, topic string) {
	if k == nil || !changed {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.topics) == 0 {
		k.flush = time.Now().Add(retainedTime)
		k.soonLocked(k.flush)
	}
	k.topics[topic] = struct{}{}
}

// write stores a change and returns when it is on disk.
func (k *keeper) write(fn func(*sqlite.Tx) error) error {
	done := make(chan error, 1)
	k.mu.Lock()
	k.calls = append(k.calls, call{write: fn, done: done})
	k.soonLocked(time.Now())
	k.mu.Unlock()
	return <-done
}

// soonLocked has run look again at t.
func (k *keeper) soonLocked(t time.Time) {
	if !k.due.IsZero() && !t.Before(k.due) {
		return
	}
	k.due = t
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run writes what is due until ctx ends, and then all that is left.
func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			k.settle(k.take(time.Time{}))
			return
		case <-k.wake:
		case <-timer.C:
			k.settle(k.take(time.Now()))
		}
		k.mu.Lock()
		if due := k.due; !due.IsZero() {
			timer.Reset(time.Until(due))
		}
		k.mu.Unlock()
	}
}

// A batch is what goes into one transaction.
type batch struct {
	parcels []*parcel
	rows    []int64
	gone    []identity
	calls   []call
	topics  []string
}

func (b *batch) empty() bool {
	return len(b.parcels)+len(b.rows)+len(b.gone)+len(b.calls)+len(b.topics) == 0
}

// take returns what is to be written now, all of it if now is zero. What could
// wait goes along when something cannot.
func (k *keeper) take(now time.Time) batch {
	b := k.collect(now)
	b.parcels = slices.DeleteFunc(b.parcels, (*parcel).settled)
	return b
}

func (k *keeper) collect(now time.Time) batch {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := batch{rows: k.rows, gone: k.gone, calls: k.calls}
	k.rows, k.gone, k.calls = nil, nil, nil
	k.due = time.Time{}
	later := k.held[:0]
	for _, p := range k.held {
		if now.IsZero() || !p.due.After(now) {
			b.parcels = append(b.parcels, p)
			continue
		}
		later = append(later, p)
		k.soonLocked(p.due)
	}
	clear(k.held[len(later):])
	k.held = later
	if len(k.topics) == 0 {
		return b
	}
	if now.IsZero() || !k.flush.After(now) {
		for topic := range k.topics {
			b.topics = append(b.topics, topic)
		}
		clear(k.topics)
	} else {
		k.soonLocked(k.flush)
	}
	return b
}

// settled reports whether the parcel needs no storing.
func (p *parcel) settled() bool {
	p.session.mu.Lock()
	defer p.session.mu.Unlock()
	return p.done || p.row > 0
}

// settle writes a batch and tells those who wait for it. If the disk fails it
// is tried again, but for the calls, which hear of it.
func (k *keeper) settle(b batch) {
	if b.empty() {
		return
	}
	rows := make([]int64, len(b.parcels))
	err := k.db.Update(func(tx *sqlite.Tx) error { return k.put(tx, b, rows) })
	for _, c := range b.calls {
		c.done <- err
	}
	if err != nil {
		k.failed(b, err)
		return
	}
	k.mu.Lock()
	if k.fault != nil {
		k.log.Info("the broker's database can be written again")
	}
	k.fault = nil
	k.mu.Unlock()
	for i, p := range b.parcels {
		if r := p.stored(k, rows[i]); r != nil {
			r.settle()
		}
	}
}

// stored notes the row of a parcel and returns the receipt to settle, or nil.
func (p *parcel) stored(k *keeper, row int64) *receipt {
	p.session.mu.Lock()
	defer p.session.mu.Unlock()
	if p.done && row > 0 {
		k.drop(row)
		return nil
	}
	p.row = row
	r := p.receipt
	p.receipt = nil
	return r
}

// failed has a batch tried again.
func (k *keeper) failed(b batch, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault == nil {
		k.log.Error("the broker's database cannot be written: nothing more is acknowledged that must be kept", "err", err)
	}
	k.fault = err
	again := time.Now().Add(retryTime)
	for _, p := range b.parcels {
		p.due = again
	}
	k.held = append(b.parcels, k.held...)
	k.rows = append(k.rows, b.rows...)
	k.gone = append(b.gone, k.gone...)
	for _, topic := range b.topics {
		k.topics[topic] = struct{}{}
	}
	if len(b.topics) > 0 {
		k.flush = again
	}
	k.soonLocked(again)
}

// put writes a batch: what ends goes before what begins under the same name.
func (k *keeper) put(tx *sqlite.Tx, b batch, rows []int64) error {
	for _, who := range b.gone {
		if _, err := tx.Exec(`DELETE FROM sessions WHERE user = ? AND client = ?`, who.user, who.client); err != nil {
			return fmt.Errorf("remove session: %w", err)
		}
	}
	for _, row := range b.rows {
		if _, err := tx.Exec(`DELETE FROM messages WHERE row = ?`, row); err != nil {
			return fmt.Errorf("remove message: %w", err)
		}
	}
	for _, c := range b.calls {
		if err := c.write(tx); err != nil {
			return err
		}
	}
	for i, p := range b.parcels {
		var err error
		if rows[i], err = p.put(tx); err != nil {
			return fmt.Errorf("store message: %w", err)
		}
	}
	for _, topic := range b.topics {
		if err := putRetained(tx, topic, k.retain.get(topic)); err != nil {
			return fmt.Errorf("store retained message: %w", err)
		}
	}
	return nil
}
