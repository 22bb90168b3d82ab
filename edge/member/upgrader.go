package member

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// Upgrades takes other versions of the program. Its methods may be called from several
// goroutines.
type Upgrades interface {
	Offer(edge.Upgrade) (Arrival, error) // the error says why it is not taken
	Leave(digest string) error           // has the one before it run again, if this is the one with that digest
	Report() edge.UpgradeReport          // but for Refused
}

// An Arrival is a version on its way. What has come stays when it is closed.
type Arrival interface {
	Offset() int64 // of what comes next
	Write(offset int64, piece []byte) error
	Finish() error // has the program begin anew with what has come, if that is what was offered
	Close() error
}

// inFlight is how many pieces of a version are asked for at once.
const inFlight = 8

// An upgrader takes a version from the hub, in one session. It is of one goroutine, but
// for hear.
type upgrader struct {
	session *session
	in      chan edge.Message
	wanted  *edge.Upgrade       // by the hub, and neither taken nor given up; nil: nothing is
	arrival Arrival             // of what is wanted; nil: it is not taken now
	asked   int64               // up to where pieces have been asked for
	was     int64               // how much had come when it was looked at last
	said    *edge.UpgradeReport // of the goroutine that reports
}

// hear hands over what the hub says of versions. What comes beyond what was asked for is
// dropped: what is missing is asked for again.
func (u *upgrader) hear(m edge.Message) {
	select {
	case u.in <- m:
	default:
	}
}

// run takes what the hub says until ctx is done. What is not taken now, since the owner
// holds it or the disk is full, is looked at again.
func (u *upgrader) run(ctx context.Context) {
	again := time.NewTicker(edge.BeatTime)
	defer again.Stop()
	defer u.end()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case m := <-u.in:
			switch m := m.(type) {
			case *edge.Upgrade:
				err = u.ordered(ctx, m)
			case *edge.UpgradeChunk:
				err = u.came(ctx, m)
			}
		case <-again.C:
			err = u.again(ctx)
		}
		if err != nil && ctx.Err() == nil {
			u.refuse(err)
		}
	}
}

// ordered takes what the hub wants.
func (u *upgrader) ordered(ctx context.Context, m *edge.Upgrade) error {
	s := u.session
	u.end()
	u.wanted = nil
	s.spurn(nil)
	switch {
	case m.Leave && s.Upgrades != nil:
		s.Logger.Warn("the hub takes a version back", "version", m.Version)
		return s.Upgrades.Leave(m.Digest)
	case !m.Leave:
		u.wanted = m
		return u.begin(ctx)
	}
	return nil
}

// begin has what is wanted arrive.
func (u *upgrader) begin(ctx context.Context) error {
	s := u.session
	if s.Upgrades == nil {
		return errors.New("this program takes no versions from a hub")
	}
	if err := u.held(); err != nil {
		return err
	}
	arrival, err := s.Upgrades.Offer(*u.wanted)
	if err != nil {
		return err
	}
	s.spurn(nil)
	u.arrival, u.asked, u.was = arrival, arrival.Offset(), -1
	s.Logger.Info("another version arrives from the hub", "version", u.wanted.Version, "from", u.asked, "bytes", u.wanted.Size)
	return u.ask(ctx)
}

// A heldError says that the node's owner lets nothing in now.
type heldError struct{ why string }

func (e *heldError) Error() string { return e.why }

// held returns a heldError while the owner lets nothing in.
func (u *upgrader) held() error {
	if why := u.session.Home.held(u.session.Owner, time.Now()); why != "" {
		return &heldError{why}
	}
	return nil
}

// again goes on with what is wanted: a piece may have been lost, or it is taken now.
func (u *upgrader) again(ctx context.Context) error {
	switch {
	case u.wanted == nil:
		return nil
	case u.arrival == nil:
		return u.begin(ctx)
	}
	if at := u.arrival.Offset(); at != u.was {
		u.was = at
		return nil
	}
	u.asked = u.was
	return u.ask(ctx)
}

// came takes a piece. One that does not follow is passed over.
func (u *upgrader) came(ctx context.Context, m *edge.UpgradeChunk) error {
	if u.arrival == nil || m.Digest != u.wanted.Digest || m.Offset != u.arrival.Offset() {
		return nil
	}
	if len(m.Data) == 0 {
		return u.giveUp(errors.New("the hub does not have it any more"))
	}
	if err := u.arrival.Write(m.Offset, m.Data); err != nil {
		return err
	}
	return u.ask(ctx)
}

// ask asks for the pieces that come next, or takes the version if it is whole, unless the
// owner has come to hold it meanwhile. Once taken nothing is wanted any more, whether it was
// what was offered or not: it would be fetched for nothing.
func (u *upgrader) ask(ctx context.Context) error {
	if err := u.held(); err != nil {
		return err
	}
	at, size := u.arrival.Offset(), u.wanted.Size
	if at >= size {
		if err := u.arrival.Finish(); err != nil {
			return u.giveUp(err)
		}
		u.session.Logger.Info("another version has arrived from the hub", "version", u.wanted.Version)
		u.end()
		u.wanted = nil
		return nil
	}
	for ; u.asked < size && u.asked < at+inFlight*edge.ChunkSize; u.asked = (u.asked/edge.ChunkSize + 1) * edge.ChunkSize {
		if err := u.session.mayFetch(ctx); err != nil {
			return err
		}
		u.session.say(&edge.UpgradeFetch{Digest: u.wanted.Digest, Offset: u.asked})
	}
	return nil
}

// refuse lets go of what arrives, and has the hub told why.
func (u *upgrader) refuse(why error) {
	u.end()
	if u.wanted != nil && u.session.spurn(refusal(*u.wanted, why)) {
		u.session.Logger.Warn("a version from the hub is not taken", "version", u.wanted.Version, "err", why)
	}
}

// giveUp refuses what is wanted for good: until the hub wants it again it is not looked at.
func (u *upgrader) giveUp(why error) error {
	u.refuse(why)
	u.wanted = nil
	return nil
}

func refusal(m edge.Upgrade, why error) *edge.UpgradeRefusal {
	_, held := errors.AsType[*heldError](why)
	return &edge.UpgradeRefusal{Order: m.Order, Version: m.Version, Why: cut(why.Error()), Held: held}
}

// end lets go of what arrives.
func (u *upgrader) end() {
	if u.arrival == nil {
		return
	}
	if err := u.arrival.Close(); err != nil {
		u.session.Logger.Warn("a version on its way is not closed", "err", err)
	}
	u.arrival = nil
}

// spurn notes which version is not taken, and reports whether that is new.
func (m *Member) spurn(r *edge.UpgradeRefusal) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	same := r != nil && m.spurned != nil && *r == *m.spurned
	m.spurned = r
	return !same
}

// withUpgrade adds to the reports how it stands with versions, if that is new in this session.
func (s *session) withUpgrade(reports []*edge.Report) []*edge.Report {
	if s.Upgrades == nil {
		return reports
	}
	is := s.Upgrades.Report()
	s.mu.Lock()
	is.Refused = s.spurned
	s.mu.Unlock()
	if s.upgrader.said != nil && reflect.DeepEqual(*s.upgrader.said, is) {
		return reports
	}
	s.upgrader.said = &is
	if len(reports) == 0 {
		return []*edge.Report{{Upgrade: &is}}
	}
	first := *reports[0]
	first.Upgrade = &is
	reports[0] = &first
	return reports
}
