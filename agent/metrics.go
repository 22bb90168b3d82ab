package agent

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sedge-iot/sedge/edge"
)

// The agent's metrics. Deliveries of one function are read in one moment, so
// that the books balance in every scrape.
var (
	descDeliveries  = describe("sedge_deliveries_total", "What became of deliveries; taken and recovered are what came in.", "function", "outcome")
	descPending     = describe("sedge_function_queue_length", "Deliveries that wait or run, in memory and in the inbox.", "function")
	descInvocations = describe("sedge_function_invocations_total", "Attempts that ended.", "function", "outcome")
	descDuration    = describe("sedge_function_duration_seconds", "Time of an attempt in its runner.", "function")
	descReaction    = describe("sedge_function_reaction_seconds", "Time from hearing an event to the end of its effects.", "function")
	descColds       = describe("sedge_function_cold_starts_total", "Runners started.", "function")
	descDropped     = describe("sedge_function_dropped_total", "Deliveries dropped for want of room.", "function", "reason")
	descState       = describe("sedge_state_bytes", "State kept, keys and values.", "function")
	descDead        = describe("sedge_dead_letters", "Dead letters kept.", "function")
	descOutbox      = describe("sedge_outbox_length", "Publishes that wait to be confirmed.", "function")
	descHeard       = describe("sedge_mqtt_messages_received_total", "Messages heard.")
	descUnacked     = describe("sedge_mqtt_unacknowledged", "Messages heard and not yet acknowledged.")
	descConnected   = describe("sedge_mqtt_connected", "1 while the broker is connected.")
	descPaused      = describe("sedge_hearing_paused", "1 while hearing is paused because too much is unacknowledged or the disk fails.")
	descLeads       = describe("sedge_cluster_leads", "1 while this node holds the cluster's lease.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (a *Agent) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descDeliveries, descPending, descInvocations, descDuration, descReaction, descColds, descDropped,
		descState, descDead, descOutbox, descHeard, descUnacked, descConnected, descPaused, descLeads,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (a *Agent) Collect(ch chan<- prometheus.Metric) {
	connected := true
	if a.Connected != nil {
		connected, _ = a.Connected()
	}
	ch <- counter(descHeard, a.heard.Load())
	unacked := int64(0)
	for _, e := range a.ears() {
		unacked += e.load.messages.Load()
	}
	ch <- gauge(descUnacked, float64(unacked))
	ch <- gauge(descConnected, truth(connected))
	ch <- gauge(descPaused, truth(a.paused()))
	if a.cluster != nil {
		ch <- gauge(descLeads, truth(a.leads.Load()))
	}
	for _, f := range a.all() {
		if !f.removed.Load() {
			f.collect(ch)
		}
	}
}

func (f *function) collect(ch chan<- prometheus.Metric) {
	ch <- gauge(descState, float64(f.a.Store.Usage(f.name).Bytes), f.name)
	ch <- gauge(descDead, float64(f.a.Store.DeadCount(f.name).Letters), f.name)
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.booksLocked()
	for outcome, n := range outcomes(c) {
		ch <- counter(descDeliveries, n, f.name, outcome)
	}
	ch <- gauge(descPending, float64(c.Pending), f.name)
	for outcome, n := range f.outcome {
		ch <- counter(descInvocations, n, f.name, outcome)
	}
	for reason, n := range f.sheds {
		ch <- counter(descDropped, n, f.name, reason)
	}
	ch <- counter(descColds, f.colds, f.name)
	waits := 0
	for _, l := range f.lanes {
		waits += len(l.out)
	}
	ch <- gauge(descOutbox, float64(waits), f.name)
	ch <- f.runtime.metric(descDuration, f.name)
	ch <- f.latency.metric(descReaction, f.name)
}

func outcomes(c edge.Counts) map[string]int64 {
	return map[string]int64{
		"taken": c.Taken, "recovered": c.Recovered, "done": c.Done, "filtered": c.Filtered, "dead": c.Dead,
		"expired": c.Expired, "shed": c.Shed, "discarded": c.Discarded,
	}
}

// metric returns h with a bucket for each power of four.
func (h *histogram) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	buckets := map[float64]uint64{}
	var below uint64
	for i, n := range h.counts {
		below += uint64(n)
		if i%8 == 0 {
			buckets[bound(i).Seconds()] = below
		}
	}
	return prometheus.MustNewConstHistogram(desc, uint64(h.total), h.sum.Seconds(), buckets, labels...)
}

func counter(d *prometheus.Desc, n int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), slices.Clone(labels)...)
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var _ prometheus.Collector = (*Agent)(nil)
