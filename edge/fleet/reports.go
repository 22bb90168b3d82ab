package fleet

import (
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/selector"
)

// Reports returns what the nodes whose labels the selector matches last said of each
// function, by function and the node's name.
func (f *Fleet) Reports(where selector.Selector) map[string]map[string]edge.FunctionReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]map[string]edge.FunctionReport{}
	for _, n := range f.nodes {
		if !n.member() || !where.Matches(n.is.PlacedBy()) {
			continue
		}
		for _, r := range n.reports {
			if all[r.Name] == nil {
				all[r.Name] = map[string]edge.FunctionReport{}
			}
			all[r.Name][n.is.Name] = r
		}
	}
	return all
}

// Discarded returns how many deliveries waited for a function on the nodes that its
// removal has reached just now.
func (f *Fleet) Discarded(function string) (sum int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		sum += n.discarded[function]
	}
	return sum
}
