package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sedge-iot/sedge/agent"
	"github.com/sedge-iot/sedge/devices/mqtt"
)

// A Carrier is a bus, and how its link to the broker is.
type Carrier struct {
	Bus       agent.Bus
	Connected func() (ok bool, why string) // and subscribed; with a why although ok: what wants somebody to see to it; nil: always
	Metrics   []prometheus.Collector       // of the link, or of a broker in this process
	Cluster   *agent.Cluster               // that the node is in, as Options.Cluster makes it; nil: in none
}

// Count returns a metric that only grows: what total returns, which may be called
// from several goroutines.
func Count(name, help string, total func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, total)
}

// linkMetrics are those of a link to a broker of the owner's.
func linkMetrics(status func() mqtt.Status) []prometheus.Collector {
	return []prometheus.Collector{
		Count("sedge_mqtt_reconnects_total", "Connections to the broker after the first, of both links.", func() float64 {
			s := status()
			return float64(s.In.Reconnects + s.Out.Reconnects)
		}),
		Count("sedge_mqtt_malformed_total", "Connections closed for a packet that MQTT forbids.", func() float64 {
			return float64(status().Malformed)
		}),
		Count("sedge_mqtt_truncated_total", "Messages heard that were over a limit, and so without their whole payload.", func() float64 {
			return float64(status().Truncated)
		}),
	}
}
