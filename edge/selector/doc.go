// Package selector chooses nodes by their labels, in Kubernetes' words:
//
//	site=home, room in (hall, attic), !spare, tier!=test, floor>1
//
// It wraps k8s.io/apimachinery/pkg/labels, so that a selector means here what it
// means to kubectl, and has what goes with it: labels as a command line names them,
// changes of labels, and Kubernetes' rules for both. It knows nothing of nodes.
package selector
