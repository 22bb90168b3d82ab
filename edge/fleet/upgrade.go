package fleet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/mod/semver"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
)

// versions are those of the nodes' program, as the ledger has them.
type versions struct {
	mark     int64
	releases []edge.Release
	upgrades []upgrade // newest first
}

// An upgrade is the rollout of a version, and whom it concerns.
type upgrade struct {
	edge.UpgradeRollout
	where   selector.Selector
	reached map[string]bool // nodes, by id
}

// An order is what a node was told of versions.
type order struct {
	number int64 // of the upgrade; 0: nothing
	leave  bool
}

// upgrade leads upgrades on, or back, and has nodes told which version they are to run,
// until ctx is done.
func (f *Fleet) upgrade(ctx context.Context) {
	tick := time.NewTicker(stepTime)
	defer tick.Stop()
	known := versions{mark: -1}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := f.readVersions(ctx, &known); err != nil {
			if ctx.Err() == nil {
				f.Logger.Error("nodes are not upgraded", "err", err)
			}
			continue
		}
		for i := range known.upgrades {
			if u := &known.upgrades[i]; !u.State.Over() && f.leads() {
				f.stepUpgrade(u)
			}
		}
		f.offer(known)
	}
}

// readVersions brings v up to date.
func (f *Fleet) readVersions(ctx context.Context, v *versions) error {
	is, changed, err := f.Ledger.Versions(ctx, v.mark)
	if err != nil || !changed {
		return err
	}
	f.mu.Lock()
	f.changedLocked()
	f.mu.Unlock()
	*v = versions{mark: is.Mark, releases: is.Releases}
	for _, u := range is.Upgrades {
		where, err := selector.Parse(u.Selector)
		if err != nil {
			f.Logger.Error("upgrade is passed over", "upgrade", u.ID, "err", err)
			continue
		}
		v.upgrades = append(v.upgrades, newUpgrade(u, where))
	}
	return nil
}

func newUpgrade(u edge.UpgradeRollout, where selector.Selector) upgrade {
	reached := make(map[string]bool, len(u.Nodes))
	for _, id := range u.Nodes {
		reached[id] = true
	}
	return upgrade{u, where, reached}
}

// stepUpgrade holds an upgrade against what is seen, and has the ledger keep what comes of that.
func (f *Fleet) stepUpgrade(u *upgrade) {
	nodes := f.programs(u)
	if _, changed := rollout.Step(u.Rollout, nodes, time.Now()); !changed {
		return
	}
	next, err := f.Ledger.SteerUpgrade(u.ID, hubItself, func(is edge.Rollout) (edge.Rollout, bool) {
		return rollout.Step(is, nodes, time.Now())
	})
	if errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrNotFound) {
		return // an operator has ended it meanwhile
	}
	if err != nil {
		f.Logger.Error("upgrade does not go on", "upgrade", u.ID, "err", err)
		return
	}
	if next.State != u.State || next.Stage != u.Stage {
		f.Logger.Info("upgrade", "upgrade", next.ID, "version", next.To, "state", next.State, "stage", next.Stage+1, "why", next.Why)
	}
	*u = newUpgrade(next, u.where)
}

// programs returns the nodes that the upgrade is about, by what they run.
func (f *Fleet) programs(u *upgrade) (list []rollout.Seen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		if n.member() && u.where.Matches(n.is.PlacedBy()) {
			seen := rollout.Seen{ID: n.is.ID, Name: n.is.Name, Online: n.online(), Cordoned: n.is.Cordoned}
			list = append(list, rollout.OfProgram(seen, n.program, u.ID))
		}
	}
	return list
}

// offer tells each node that is connected here, once in a session, which version it is to run
// or to leave.
func (f *Fleet) offer(v versions) {
	type telling struct {
		s *session
		m *edge.Upgrade
	}
	var list []telling
	f.mu.Lock()
	for _, n := range f.nodes {
		if n.session == nil || n.program == nil {
			continue
		}
		m := v.order(n)
		if m == nil || n.session.told == (order{m.Order, m.Leave}) {
			continue
		}
		n.session.told = order{m.Order, m.Leave}
		list = append(list, telling{n.session, m})
	}
	f.mu.Unlock()
	for _, t := range list {
		if err := t.s.say(t.m); err != nil {
			f.Logger.Debug("version not offered", "node", t.s.id, "err", err)
		}
	}
}

// order returns what a node is to be told, or nil. What went back, and the node has or is
// about to have, it is to leave; else it is to run the version of the newest upgrade that has
// reached it, or that was completed before it came.
func (v versions) order(n *node) *edge.Upgrade {
	for i := range v.upgrades {
		u := &v.upgrades[i]
		release := v.release(u, n.program.Platform)
		if release == nil {
			continue
		}
		m := &edge.Upgrade{Order: u.ID, Release: *release, Downgrade: u.Downgrade}
		switch reached := u.reached[n.is.ID]; {
		case u.State == edge.RolledBack || u.State == edge.Aborted:
			if m.Leave = true; reached && (n.program.Digest == m.Digest || n.session.told == order{u.ID, false}) {
				return m
			}
		case !n.fed():
			return nil // it keeps what it runs
		case reached || u.State == edge.Completed && u.where.Matches(n.is.PlacedBy()):
			if n.program.Version == m.Version || !u.Downgrade && semver.Compare(m.Version, n.program.Version) < 0 {
				return nil
			}
			return m
		}
	}
	return nil
}

// release returns the release that an upgrade has for a platform, or nil.
func (v versions) release(u *upgrade, platform string) *edge.Release {
	i := slices.IndexFunc(v.releases, func(r edge.Release) bool { return r.Version == string(u.To) && r.Platform == platform })
	if i < 0 {
		return nil
	}
	return &v.releases[i]
}

// sent answers a node that fetches a piece of a release, as fast as all together may.
func (s *session) sent(ctx context.Context, m *edge.UpgradeFetch) {
	if s.fleet.library.speed.WaitN(ctx, edge.ChunkSize) != nil {
		return
	}
	data, err := s.fleet.Ledger.ReleaseChunk(ctx, m.Digest, m.Offset)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		if ctx.Err() == nil {
			s.fleet.Logger.Error("release cannot be read", "digest", m.Digest, "err", err)
		}
		return // the node asks again
	}
	if err := s.say(&edge.UpgradeChunk{Digest: m.Digest, Offset: m.Offset, Data: data}); err != nil {
		s.fleet.Logger.Debug("release not sent", "node", s.id, "err", err)
	}
}

// SteerUpgrade carries out what an operator wants of an upgrade: [rollout.Resume] and the like.
// Its error is as that of [Fleet.Pause].
func (f *Fleet) SteerUpgrade(id int64, who ledger.Who, do func(r edge.Rollout, by string, now time.Time) (edge.Rollout, error)) (edge.UpgradeRollout, error) {
	var refused error
	u, err := f.Ledger.SteerUpgrade(id, who, func(is edge.Rollout) (next edge.Rollout, changed bool) {
		next, refused = do(is, who.By, time.Now())
		return next, refused == nil
	})
	return u, cmp.Or(err, refused)
}
