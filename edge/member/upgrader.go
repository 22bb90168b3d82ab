package member

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// Upgrades takes other versions of the program. Its methods may be called from several
// goroutines.
type Upgrades interface {
	Offer(edge.Upgrade) (Arrival, error) // the error says why it is not taken
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

// A proposal is a version that arrives in a session.
type proposal struct {
	edge.Upgrade
	Arrival
	asked int64 // up to where pieces have been asked for
}

// An upgrader takes a version from the hub, in one session.
type upgrader struct {
	session *session
	in      chan edge.Message
	now     *proposal // nil: nothing arrives
	told    *edge.UpgradeReport
}

// hear hands over what the hub says of versions. What comes beyond what was asked for is
// dropped: what is missing is asked for again.
func (u *upgrader) hear(m edge.Message) {
	select {
	case u.in <- m:
	default:
	}
}

// run takes what the hub says until ctx is done.
func (u *upgrader) run(ctx context.Context) {
	tick := time.NewTicker(edge.BeatTime)
	defer tick.Stop()
	defer u.end()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case m := <-u.in:
			switch m := m.(type) {
			case *edge.Upgrade:
				err = u.offered(ctx, m)
			case *edge.UpgradeChunk:
				err = u.came(ctx, m)
			}
		case <-tick.C:
			if u.now != nil { // a piece may have been lost
				u.now.asked = u.now.Offset()
				err = u.ask(ctx)
			}
		}
		if err != nil && ctx.Err() == nil {
			u.refuse(err)
		}
	}
}

func (u *upgrader) offered(ctx context.Context, m *edge.Upgrade) error {
	s := u.session
	u.end()
	if s.Upgrades == nil {
		u.now = &proposal{Upgrade: *m}
		return fmt.Errorf("this program takes no versions from a hub")
	}
	if is := s.Upgrades.Report(); is.Version == m.Version {
		return nil // it runs: the hub has not heard yet
	}
	arrival, err := s.Upgrades.Offer(*m)
	u.now = &proposal{Upgrade: *m, Arrival: arrival}
	if err != nil {
		return err
	}
	s.spurn(nil)
	u.now.asked = arrival.Offset()
	s.Logger.Info("another version arrives from the hub", "version", m.Version, "from", u.now.asked, "bytes", m.Size)
	return u.ask(ctx)
}

// came takes a piece. One that does not follow is passed over.
func (u *upgrader) came(ctx context.Context, m *edge.UpgradeChunk) error {
	p := u.now
	if p == nil || m.Digest != p.Digest || m.Offset != p.Offset() {
		return nil
	}
	if len(m.Data) == 0 {
		return fmt.Errorf("the hub does not have it any more")
	}
	if err := p.Write(m.Offset, m.Data); err != nil {
		return err
	}
	return u.ask(ctx)
}

// ask asks for the pieces that come next, or takes the version if it is whole.
func (u *upgrader) ask(ctx context.Context) error {
	p := u.now
	if p.Offset() >= p.Size {
		if err := p.Finish(); err != nil {
			return err
		}
		u.session.Logger.Info("another version has arrived from the hub", "version", p.Version)
		u.end()
		return nil
	}
	for ; p.asked < p.Size && p.asked < p.Offset()+inFlight*edge.ChunkSize; p.asked += edge.ChunkSize {
		if err := u.session.mayFetch(ctx); err != nil {
			return err
		}
		u.session.say(&edge.UpgradeFetch{Digest: p.Digest, Offset: p.asked})
	}
	return nil
}

// refuse ends what arrives, and has the hub told why.
func (u *upgrader) refuse(why error) {
	p := u.now
	u.session.Logger.Warn("a version from the hub is not taken", "version", p.Version, "err", why)
	u.session.spurn(&edge.UpgradeRefusal{Version: p.Version, Digest: p.Digest, Why: cut(why.Error())})
	u.end()
}

// end lets go of what arrives.
func (u *upgrader) end() {
	if u.now != nil && u.now.Arrival != nil {
		if err := u.now.Close(); err != nil {
			u.session.Logger.Warn("a version on its way is not closed", "err", err)
		}
	}
	u.now = nil
}

func (m *Member) spurn(r *edge.UpgradeRefusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spurned = r
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
	if s.upgrader.told != nil && reflect.DeepEqual(*s.upgrader.told, is) {
		return reports
	}
	s.upgrader.told = &is
	if len(reports) == 0 {
		return []*edge.Report{{Upgrade: &is}}
	}
	first := *reports[0]
	first.Upgrade = &is
	reports[0] = &first
	return reports
}
