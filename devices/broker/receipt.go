package broker

import "sync/atomic"

// A receipt is the acknowledgement that the publisher of a message is due once
// all whom it concerns have settled their part. Each part is settled once, and
// never with a lock held, since the last one tells the publisher.
type receipt struct {
	left atomic.Int32 // parts to be settled
	size int          // of the payload, in bytes
	id   uint16
	qos  byte

	conn    *conn       // of the publisher; at QoS 2 guarded by the session's mu
	session *session    // of the publisher
	acked   bool        // guarded by the session's mu; a PUBREC is due again for a repetition
	done    func(error) // for what no device published, in place of a session
	echo    *echo       // that handed it to the agent, or nil
}

// Ack settles the agent's part.
func (r *receipt) Ack() { r.settle() }

func (r *receipt) settle() {
	if r.left.Add(-1) != 0 {
		return
	}
	switch {
	case r.done != nil:
		if r.echo != nil {
			r.echo.forget(r)
		}
		r.done(nil)
	case r.qos == 1:
		r.conn.settle(puback, r.id, r.size)
	case r.qos == 2:
		r.session.received(r)
	}
}

// fail tells the publisher that not all parts will be settled.
func (r *receipt) fail(err error) {
	if r.left.Swap(-1<<30) > 0 {
		r.done(err)
	}
}
