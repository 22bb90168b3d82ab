package fleet

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sedge-iot/sedge/edge"
)

// counts is what has happened since the hub started.
type counts struct {
	heard     atomic.Int64 // messages
	said      atomic.Int64
	unknown   atomic.Int64 // messages of newer kinds
	malformed atomic.Int64
	refused   atomic.Int64 // dials
	balked    atomic.Int64 // refusals of nodes
	slow      atomic.Int64 // sessions of nodes that did not take what they were told
	calls     atomic.Int64
}

// The fleet's metrics.
var (
	descNodes     = describe("sedge_fleet_nodes", "Nodes, by what the hub thinks of them.", "standing")
	descConnected = describe("sedge_fleet_connected_nodes", "Nodes that are connected.")
	descInStep    = describe("sedge_fleet_nodes_in_step", "Members of the fleet that have said to have all that they are to have.")
	descRefusing  = describe("sedge_fleet_nodes_refusing", "Nodes that do not take what they are told, by reason.", "reason")
	descRollouts  = describe("sedge_fleet_rollouts", "Rollouts that are not over, by state.", "state")
	descPosition  = describe("sedge_fleet_position", "Changes of what nodes are to run, in this epoch.")
	descMessages  = describe("sedge_fleet_messages_total", "Messages over links.", "direction")
	descBad       = describe("sedge_fleet_bad_messages_total", "Messages of nodes that the hub could not use.", "reason")
	descDials     = describe("sedge_fleet_refused_dials_total", "Dials that led to no session.")
	descRefusals  = describe("sedge_fleet_refusals_total", "Times that a node did not take what it was told.")
	descSlow      = describe("sedge_fleet_slow_nodes_total", "Sessions that ended since the node took its messages too slowly.")
	descCalls     = describe("sedge_fleet_calls_total", "Calls to nodes.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (f *Fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descNodes, descConnected, descInStep, descRefusing, descRollouts, descPosition,
		descMessages, descBad, descDials, descRefusals, descSlow, descCalls,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *Fleet) Collect(ch chan<- prometheus.Metric) {
	f.collectNodes(ch)
	for _, c := range []struct {
		desc   *prometheus.Desc
		count  *atomic.Int64
		labels []string
	}{
		{descMessages, &f.counts.heard, []string{"in"}},
		{descMessages, &f.counts.said, []string{"out"}},
		{descBad, &f.counts.unknown, []string{"unknown"}},
		{descBad, &f.counts.malformed, []string{"malformed"}},
		{descDials, &f.counts.refused, nil},
		{descRefusals, &f.counts.balked, nil},
		{descSlow, &f.counts.slow, nil},
		{descCalls, &f.counts.calls, nil},
	} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.count.Load()), c.labels...)
	}
}

func (f *Fleet) collectNodes(ch chan<- prometheus.Metric) {
	standings, reasons, states := map[edge.Standing]int{}, map[edge.RefusalReason]int{}, map[edge.RolloutState]int{}
	connected, inStep := 0, 0
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		standings[n.is.Standing]++
		if n.session != nil {
			connected++
		}
		if n.member() && n.inStep() {
			inStep++
		}
		if n.refusal != nil {
			reasons[known(n.refusal.Reason)]++
		}
	}
	for _, r := range f.rollouts {
		states[r.State]++
	}
	gauge(ch, descConnected, connected)
	gauge(ch, descInStep, inStep)
	gauge(ch, descPosition, int(f.hubAtLocked().Revision))
	for standing, n := range standings {
		gauge(ch, descNodes, n, string(standing))
	}
	for reason, n := range reasons {
		gauge(ch, descRefusing, n, string(reason))
	}
	for state, n := range states {
		gauge(ch, descRollouts, n, string(state))
	}
}

// known returns the reason if the hub knows it: what nodes say makes no new series.
func known(r edge.RefusalReason) edge.RefusalReason {
	switch r {
	case edge.RefusedBackward, edge.RefusedEpoch, edge.RefusedForward, edge.RefusedMixed, edge.RefusedMalformed,
		edge.RefusedEmptying, edge.RefusedUnsigned, edge.RefusedContent, edge.RefusedHeld, edge.RefusedFailed:
		return r
	}
	return "other"
}

func gauge(ch chan<- prometheus.Metric, desc *prometheus.Desc, n int, labels ...string) {
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
}
