package broker

import "time"

// Contests count how often connections took sessions from one another. Two
// devices with the same client id do that to each other for ever, and neither
// gets anything done.
type contests struct {
	since time.Time        // when the counting began
	lost  map[identity]int // how often each session was taken over since
	worst identity         // whose session changed hands most
}

const (
	contestTime  = time.Minute // how long is counted before it begins anew
	contested    = 3           // times within contestTime that are suspicious
	maxContested = 1000        // clients that are watched at a time
)

// add counts one time more and reports whether that has just become
// suspicious.
func (c *contests) add(who identity, now time.Time) bool {
	if c.lost == nil || now.Sub(c.since) >= contestTime {
		*c = contests{since: now, lost: map[identity]int{}}
	}
	if _, known := c.lost[who]; !known && len(c.lost) >= maxContested {
		return false
	}
	c.lost[who]++
	if c.lost[who] >= c.lost[c.worst] {
		c.worst = who
	}
	return c.lost[who] == contested
}

// fault says whose session changes hands all the time, or "".
func (c *contests) fault(now time.Time) string {
	if now.Sub(c.since) >= 2*contestTime || c.lost[c.worst] < contested {
		return ""
	}
	return contestText + ": " + c.worst.client
}

const contestText = "connections take a session from one another: do two devices use the same client id?"

// tookOver notes that a connection took the session of who from another.
func (b *Broker) tookOver(who identity) {
	b.takeovers.Add(1)
	b.mu.Lock()
	alarm := b.contests.add(who, time.Now())
	b.mu.Unlock()
	if alarm {
		b.log.Warn(contestText, "client", who.client, "user", who.user)
	}
}
