package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// callCost is what a call weighs at most beside the function in its body, bytes.
const callCost = 256 + edge.MaxSignature

// maxShelf is how much of functions as they are fetched is kept at hand, bytes.
const maxShelf = 2 * edge.MaxBundle

// A library has the functions that nodes fetch, and what is to be known of each to
// place it. It may be used from several goroutines.
type library struct {
	ledger *ledger.Ledger
	speed  *rate.Limiter

	mu    sync.Mutex
	cards map[functions.Revision]card // of what the plan names; guarded by mu
	shelf []bundle                    // the newest last; guarded by mu
	lent  map[loan][]byte             // guarded by mu
}

// A card is what is known of a revision.
type card struct {
	at       functions.Placement
	function *functions.Function // nil if it is not small
}

// A bundle is a function as it is fetched.
type bundle struct {
	revision functions.Revision
	text     []byte
}

// A loan is a function that a node is to try.
type loan struct {
	node     string
	revision functions.Revision
}

func newLibrary(l *ledger.Ledger, speed *rate.Limiter) *library {
	return &library{ledger: l, speed: speed, cards: map[functions.Revision]card{}, lent: map[loan][]byte{}}
}

// look returns the card of a revision.
func (l *library) look(ctx context.Context, name string, revision functions.Revision) (card, error) {
	l.mu.Lock()
	c, ok := l.cards[revision]
	l.mu.Unlock()
	if ok {
		return c, nil
	}
	f, err := l.ledger.Revision(ctx, name, string(revision))
	if err != nil {
		return card{}, err
	}
	text, err := json.Marshal(f)
	if err != nil {
		return card{}, fmt.Errorf("encode %s: %w", name, err)
	}
	c.at = f.Manifest.Spec.Placement
	if len(text) <= edge.MaxInline {
		c.function = &f
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cards[revision] = c
	return c, nil
}

// keep forgets the cards of revisions that the plan does not name.
func (l *library) keep(p *plan) {
	named := map[functions.Revision]bool{}
	for _, one := range p.places {
		named[one.now.Revision], named[one.before.Revision] = true, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for revision := range l.cards {
		if !named[revision] {
			delete(l.cards, revision)
		}
	}
}

// lend lets a node fetch a function that it is to try, until back is called. It returns
// the function as it is sent: whole if it fits into a message, else only what names it.
func (l *library) lend(node string, f functions.Function) (sent functions.Function, back func(), err error) {
	text, err := edge.Bundle(f)
	if err != nil {
		return f, nil, err
	}
	if len(text) <= edge.MaxStep-callCost {
		return f, func() {}, nil
	}
	of := loan{node, f.Revision}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent[of] = text
	sent.Manifest.Metadata.Name, sent.Revision = f.Name(), f.Revision
	return sent, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.lent, of)
	}, nil
}

// cut answers a fetch by a node of the function name, "" if none of that revision is placed on
// it. It waits until all nodes together have not fetched too much.
func (l *library) cut(ctx context.Context, node, name string, f edge.Fetch) (*edge.Chunk, error) {
	text, err := l.text(ctx, node, name, f.Revision)
	if err != nil {
		return nil, err
	}
	chunk := edge.Cut(text, f)
	if err := l.speed.WaitN(ctx, len(chunk.Data)); err != nil {
		return nil, err
	}
	return chunk, nil
}

// text returns a function as it is fetched, or nil if the node may not have it.
func (l *library) text(ctx context.Context, node, name string, revision functions.Revision) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text, ok := l.lent[loan{node, revision}]; ok {
		return text, nil
	}
	if name == "" {
		return nil, nil
	}
	if i := slices.IndexFunc(l.shelf, func(b bundle) bool { return b.revision == revision }); i >= 0 {
		b := l.shelf[i]
		l.shelf = append(slices.Delete(l.shelf, i, i+1), b)
		return b.text, nil
	}
	f, err := l.ledger.Revision(ctx, name, string(revision)) // whoever else fetches waits: likely for the same
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil // one that is no more
	}
	if err != nil {
		return nil, err
	}
	text, err := edge.Bundle(f)
	if err != nil {
		return nil, err
	}
	l.put(bundle{revision, text})
	return text, nil
}

// put keeps a bundle in the place of those that nobody has fetched for the longest time.
func (l *library) put(b bundle) {
	l.shelf = append(l.shelf, b)
	total := 0
	for i := len(l.shelf) - 1; i >= 0; i-- {
		if total += len(l.shelf[i].text); total > maxShelf {
			l.shelf = slices.Delete(l.shelf, 0, i+1)
			return
		}
	}
}

// nameOf returns the name of the function of which a set has that revision, or "".
func nameOf(set *edge.Set, revision functions.Revision) string {
	if set == nil {
		return ""
	}
	for _, r := range set.Refs() {
		if r.Revision == revision {
			return r.Name
		}
	}
	return ""
}
