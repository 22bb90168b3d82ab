package fleet

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
)

// upgrade leads rollouts of versions on, or back, and has nodes told which one they are to
// run, until ctx is done.
func (f *Fleet) upgrade(ctx context.Context) {
	tick := time.NewTicker(stepTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		releases, upgrades, err := f.Ledger.Releases(ctx)
		if err != nil {
			if ctx.Err() == nil {
				f.Logger.Error("nodes are not upgraded", "err", err)
			}
			continue
		}
		for i := range upgrades {
			if !upgrades[i].State.Over() {
				f.stepUpgrade(&upgrades[i])
			}
		}
		f.offer(releases, upgrades)
	}
}

// stepUpgrade holds an upgrade against what is seen, and has the ledger keep what comes of that.
func (f *Fleet) stepUpgrade(u *edge.UpgradeRollout) {
	where, err := selector.Parse(u.Selector)
	if err != nil {
		f.Logger.Error("upgrade does not go on", "upgrade", u.ID, "err", err)
		return
	}
	nodes := f.programs(where)
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
	*u = next
}

// programs returns the nodes that the selector matches, by what they run.
func (f *Fleet) programs(where selector.Selector) (list []rollout.Seen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		if n.member() && where.Matches(labelsOf(&n.is)) {
			seen := rollout.Seen{ID: n.is.ID, Name: n.is.Name, Online: n.session != nil, Cordoned: n.is.Cordoned}
			list = append(list, rollout.OfProgram(seen, n.program))
		}
	}
	return list
}

// offer tells each node once in a session which version it is to run, if that is another.
func (f *Fleet) offer(releases []edge.Release, upgrades []edge.UpgradeRollout) {
	type telling struct {
		s *session
		m edge.Upgrade
	}
	var list []telling
	f.mu.Lock()
	f.releases = releases
	for _, n := range f.nodes {
		if n.session == nil || !n.fed() || n.program == nil {
			continue
		}
		u := goal(n, upgrades)
		i := slices.IndexFunc(releases, func(r edge.Release) bool {
			return r.Version == string(u.To) && r.Platform == n.program.Platform
		})
		if i >= 0 && n.program.Version != string(u.To) && n.session.offered != releases[i].Digest {
			n.session.offered = releases[i].Digest
			list = append(list, telling{n.session, edge.Upgrade{Release: releases[i], Downgrade: u.Downgrade}})
		}
	}
	f.mu.Unlock()
	for _, t := range list {
		if err := t.s.say(&t.m); err != nil {
			f.Logger.Debug("version not offered", "node", t.s.id, "err", err)
		}
	}
}

// goal returns the upgrade whose version a node is to run, or none: the newest that has
// reached it. What went back takes the node to the completed one before it.
func goal(n *node, upgrades []edge.UpgradeRollout) edge.UpgradeRollout {
	back := false
	for _, u := range upgrades {
		reached := slices.Contains(u.Nodes, n.is.ID)
		switch {
		case u.State == edge.RolledBack || u.State == edge.Aborted:
			back = back || reached
			continue
		case u.State == edge.Completed && !reached:
			where, err := selector.Parse(u.Selector)
			reached = err == nil && where.Matches(labelsOf(&n.is)) // it came later
		}
		if reached {
			u.Downgrade = u.Downgrade || back
			return u
		}
	}
	return edge.UpgradeRollout{}
}

// sent answers a node that fetches a piece of a release, as fast as all together may.
func (s *session) sent(ctx context.Context, m *edge.UpgradeFetch) {
	f := s.fleet
	f.mu.Lock()
	i := slices.IndexFunc(f.releases, func(r edge.Release) bool { return r.Digest == m.Digest })
	f.mu.Unlock()
	chunk := edge.UpgradeChunk{Digest: m.Digest, Offset: m.Offset}
	if i >= 0 && m.Offset >= 0 {
		if f.library.speed.WaitN(ctx, edge.ChunkSize) != nil {
			return
		}
		var err error
		if chunk.Data, err = piece(filepath.Join(f.Releases, m.Digest), m.Offset); err != nil {
			f.Logger.Error("release cannot be read", "digest", m.Digest, "err", err)
		}
	}
	if err := s.say(&chunk); err != nil {
		f.Logger.Debug("release not sent", "node", s.id, "err", err)
	}
}

func piece(path string, offset int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, edge.ChunkSize)
	n, err := file.ReadAt(data, offset)
	if err == io.EOF {
		err = nil
	}
	return data[:n], err
}

// SteerUpgrade carries out what an operator wants of an upgrade: pause, resume, promote or
// abort. Its error is as that of [Fleet.Pause].
func (f *Fleet) SteerUpgrade(id int64, verb string, who ledger.Who) (edge.UpgradeRollout, error) {
	now := time.Now()
	var refused error
	u, err := f.Ledger.SteerUpgrade(id, who, func(is edge.Rollout) (next edge.Rollout, changed bool) {
		switch verb {
		case "pause":
			next, refused = rollout.Pause(is, who.By)
		case "resume":
			next, refused = rollout.Resume(is, who.By, now)
		case "promote":
			next, refused = rollout.Promote(is, who.By, now)
		default:
			next, refused = rollout.Abort(is, who.By, now)
		}
		return next, refused == nil
	})
	return u, errors.Join(err, refused)
}
