package member

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

// chunkCost is what a chunk of a function weighs on the link, bytes: its data is base64.
const chunkCost = edge.ChunkSize*4/3 + 256

// unread is how many messages of the hub may wait for a step to be taken. What comes
// beyond is dropped, like anything that is lost on the way: the hub says it again.
const unread = 8

// A session is one link to the hub, and what is done over it.
type session struct {
	*Member
	conn     *link.Conn
	in       chan edge.Message // for who follows
	calls    *calls
	reporter reporter
	upgrader upgrader
}

func newSession(m *Member, conn *link.Conn) *session {
	s := &session{Member: m, conn: conn, in: make(chan edge.Message, unread)}
	s.calls = newCalls(m, s.say)
	s.upgrader = upgrader{session: s, in: make(chan edge.Message, 2*inFlight)}
	return s
}

// run works until the session ends, and returns why.
func (s *session) run(ctx context.Context) error {
	live, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { s.follow(live, ctx) })
	parts.Go(func() { s.tell(live) })
	parts.Go(func() { s.upgrader.run(live) })
	err := s.conn.Serve(ctx, func(data []byte) error { return s.heard(live, data) })
	stop()
	s.calls.wait()
	parts.Wait()
	return err
}

// heard takes a message of the hub. Calls are answered beside the steps, which can take
// their time.
func (s *session) heard(ctx context.Context, data []byte) error {
	m, err := edge.Decode(data)
	if errors.Is(err, edge.ErrUnknown) {
		s.unknown.Add(1)
		return nil
	}
	if err != nil {
		return err
	}
	if c, ok := m.(*edge.Chunk); ok {
		s.calls.desks.brought(c)
	}
	switch m := m.(type) {
	case *edge.Call:
		s.calls.begin(ctx, m)
	case *edge.Upgrade, *edge.UpgradeChunk:
		s.upgrader.hear(m)
	case *edge.Cancel:
		s.calls.cancel(m.ID)
	default:
		select {
		case s.in <- m:
		default:
		}
	}
	return nil
}

// say sends a message. That the link has ended, Serve says.
func (s *session) say(m edge.Message) {
	data, err := edge.Encode(m)
	if err != nil {
		s.Logger.Error("a message to the hub cannot be sent", "err", err)
		return
	}
	s.conn.Send(data)
}

// follow has the replica judge what the hub says and the agent take its steps, while the
// session lives. What the agent has begun is brought to an end all the same, unless the
// program ends.
func (s *session) follow(live, program context.Context) {
	tick := time.NewTicker(edge.BeatTime)
	defer tick.Stop()
	s.agreed()
	s.sayAll(live, s.replica.Begin())
	for {
		s.note()
		select {
		case <-live.Done():
			return
		case m := <-s.in:
			if is, ok := m.(*edge.Current); ok && is.At.Epoch != "" && is.At == s.replica.Synced().At {
				s.agreed()
			}
			out := s.replica.Step(m)
			s.sayAll(live, out.Send)
			if out.Apply != nil {
				s.note()
				s.sayAll(live, s.replica.Applied(s.apply(program, out.Apply)))
			}
		case <-tick.C:
			s.sayAll(live, s.replica.Tick())
		}
	}
}

// sayAll sends what the replica says. Functions are fetched no faster than the owner
// wants.
func (s *session) sayAll(ctx context.Context, messages []edge.Message) {
	for _, m := range messages {
		switch m := m.(type) {
		case *edge.Fetch:
			if s.mayFetch(ctx) != nil {
				return
			}
		case *edge.Refusal:
			s.refused(m)
		}
		s.say(m)
	}
}

// mayFetch waits until the owner lets a chunk in.
func (m *Member) mayFetch(ctx context.Context) error {
	return m.fetches.WaitN(ctx, min(chunkCost, max(m.fetches.Burst(), 0)))
}

// apply has the agent take a step.
func (s *session) apply(ctx context.Context, a *edge.Apply) edge.Result {
	began := time.Now()
	unfit, discarded, err := s.Agent.Apply(ctx, a.Put, a.Remove, a.Next)
	if err != nil {
		s.Logger.Error("the hub's step could not be taken", "revision", a.Next.At.Revision, "err", err)
		return edge.Result{Err: err}
	}
	for _, u := range unfit {
		s.Logger.Error("a function of the hub does not run here", "fn", u.Name, "revision", u.Revision.Short(), "err", u.Error)
	}
	s.Logger.Info("in step with the hub", "revision", a.Next.At.Revision, "put", len(a.Put), "removed", len(a.Remove), "took", time.Since(began).Round(time.Millisecond))
	return edge.Result{Unfit: unfit, Discarded: discarded}
}

// tell says how functions are, and something at least every [edge.BeatTime].
func (s *session) tell(ctx context.Context) {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	var said time.Time
	for {
		now := time.Now()
		reports := s.reporter.next(now, s.Agent.Reports(), s.checks())
		if said.IsZero() {
			reports = s.withAbsence(reports)
		}
		reports = s.withUpgrade(reports)
		if len(reports) == 0 && now.Sub(said) >= edge.BeatTime-glance {
			reports = append(reports, &edge.Report{})
		}
		for _, r := range reports {
			s.say(r)
			said = now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// withAbsence adds to the first reports of a session what happened without the hub.
func (s *session) withAbsence(reports []*edge.Report) []*edge.Report {
	away, err := s.absence.end()
	if err != nil {
		s.Logger.Warn("what happened without the hub is told again next time", "err", err)
	}
	if away != nil {
		first := *reports[0]
		first.Away = away
		reports = slices.Concat([]*edge.Report{&first}, reports[1:])
	}
	return reports
}
