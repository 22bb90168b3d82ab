package functions

import (
	"time"
)

// withDefaults returns m with every field set that has a default. It shares
// nothing with m that it changes. The schema names the same defaults.
func withDefaults(m Manifest) Manifest {
	s := &m.Spec
	s.Triggers = append([]Trigger(nil), s.Triggers...)
	for i := range s.Triggers {
		s.Triggers[i] = s.Triggers[i].withDefaults()
	}
	if s.Output != nil {
		o := *s.Output
		fillPointer(&o.QoS, 1)
		s.Output = &o
	}
	fill(&s.Resources.Memory, 32<<20)
	fill(&s.Resources.Timeout, Duration(5*time.Second))
	fill(&s.Resources.Concurrency, 4)
	s.Delivery = s.Delivery.withDefaults()
	fill(&s.Scaling.Idle, Duration(5*time.Minute))
	fill(&s.Placement.Mode, ModeEach)
	fill(&s.Placement.Sandbox, SandboxAuto)
	fill(&s.Placement.Pin, PinNode)
	if !s.Placement.Shared() { // else it has no state
		fill(&s.State.MaxBytes, 1<<20)
	}
	return m
}

func (t Trigger) withDefaults() Trigger {
	if t.MQTT != nil {
		q := *t.MQTT
		fillPointer(&q.QoS, 1)
		fill(&q.Retained, "ignore")
		t.MQTT = &q
	}
	if t.HTTP != nil {
		h := *t.HTTP
		if len(h.Methods) == 0 {
			h.Methods = []string{"POST"}
		}
		t.HTTP = &h
	}
	return t
}

func (d Delivery) withDefaults() Delivery {
	fill(&d.Order, "device")
	fill(&d.Retry.Attempts, 5)
	fill(&d.Retry.Backoff, Duration(time.Second))
	fill(&d.Retry.Max, Duration(time.Minute))
	fillPointer(&d.DeadLetter, true)
	fill(&d.PublishRate, 1000)
	if d.Dedupe != nil {
		w := *d.Dedupe
		fill(&w.Window, Duration(10*time.Minute))
		d.Dedupe = &w
	}
	fill(&d.Inbox.Deliveries, 10_000)
	fill(&d.Inbox.Bytes, 32<<20)
	return d
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func fillPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
