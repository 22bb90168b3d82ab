package broker

import "time"

// A Status is what a broker can say of itself.
type Status struct {
	Addr     string
	Clients  int // connected
	Sessions int // connected or kept
	Retained int // topics
	Queued   int // messages that clients have not taken or acknowledged
	Paused   bool

	Received  uint64 // messages from clients
	Sent      uint64 // messages to clients
	Dropped   uint64 // messages for which a client had no room
	Denied    uint64 // logins, publications and subscriptions
	Takeovers uint64 // connections that took their session from another

	Faults []string // what is wrong and may need somebody
}

// Status returns what the broker can say of itself now.
func (b *Broker) Status() Status {
	st := Status{
		Addr:     b.Addr().String(),
		Retained: b.retain.len(),
		Received: b.received.Load(),
		Sent:     b.sent.Load(),
		Dropped:  b.dropped.Load(),
		Denied:   b.denied.Load(),

		Takeovers: b.takeovers.Load(),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	st.Clients, st.Sessions, st.Paused = len(b.conns), len(b.sessions), b.paused != nil
	for _, s := range b.sessions {
		s.mu.Lock()
		st.Queued += len(s.waiting) + len(s.flying)
		s.mu.Unlock()
	}
	if b.aclFault != "" {
		st.Faults = append(st.Faults, "ACL: "+b.aclFault)
	}
	if f := b.contests.fault(time.Now()); f != "" {
		st.Faults = append(st.Faults, f)
	}
	if err := b.keeper.err(); err != nil {
		st.Faults = append(st.Faults, err.Error())
	}
	return st
}

// err returns why the last writing failed, or nil.
func (k *keeper) err() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault
}
