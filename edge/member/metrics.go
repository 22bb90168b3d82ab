package member

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sedge-iot/sedge/edge"
)

// Check tells how the node is with its hub. That it has none is a state: the node is
// ready all the same.
func (m *Member) Check() edge.Check {
	s, c := m.Status(), edge.Check{Name: "hub", OK: true}
	switch held := m.Home.held(m.Owner, time.Now()); {
	case !s.Connected:
		c.Why = fmt.Sprintf("hub away since %s: %s", s.Since.Format(time.RFC3339), s.Error)
	case s.Refusal != "":
		c.Why = "the hub's last step is not taken: " + s.Refusal
	case held != "":
		c.Why = held
	}
	return c
}

var (
	descConnected = prometheus.NewDesc("sedge_hub_connected", "1 while there is a session with the hub.", nil, nil)
	descSessions  = prometheus.NewDesc("sedge_hub_sessions_total", "Sessions with the hub that were begun.", nil, nil)
	descSynced    = prometheus.NewDesc("sedge_sync_generation", "Revision of the hub's that the node has applied, and the one that it is led to.", []string{"kind"}, nil)
	descRefused   = prometheus.NewDesc("sedge_sync_refused_total", "Steps of the hub's that were not taken.", nil, nil)
	descUnknown   = prometheus.NewDesc("sedge_hub_unknown_messages_total", "Messages of the hub of a kind that this program does not know.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *Member) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConnected, descSessions, descSynced, descRefused, descUnknown} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Member) Collect(ch chan<- prometheus.Metric) {
	s, connected := m.Status(), 0.0
	if s.Connected {
		connected = 1
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, n int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	gauge(descConnected, connected)
	gauge(descSynced, float64(s.At.Revision), "applied")
	gauge(descSynced, float64(s.Goal.Revision), "desired")
	counter(descSessions, m.sessions.Load())
	counter(descRefused, m.refusals.Load())
	counter(descUnknown, m.unknown.Load())
}
