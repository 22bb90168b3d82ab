package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

// A Resource is a Function resource as the API server holds it.
type Resource struct {
	kube.TypeMeta
	Metadata kube.Meta       `json:"metadata"`
	Spec     json.RawMessage `json:"spec"`
	Status   Status          `json:"status,omitzero"`
}

// Functions is the kind of [Resource].
var Functions = kube.Kind[Resource]{Group: "sedge.dev", Version: "v1", Name: "Function", Plural: "functions"}

// A Status is how the function is on the nodes of the cluster.
type Status struct {
	Generation int64                 `json:"observedGeneration,omitempty"`
	Revision   string                `json:"revision,omitempty"` // shortened
	Nodes      map[string]NodeStatus `json:"nodes,omitempty"`
	Conditions []Condition           `json:"conditions,omitempty"`
}

// A NodeStatus is how the function is on one node. No field may be left out when
// it is empty: in a patch, absent is what stays.
type NodeStatus struct {
	Generation int64     `json:"generation"` // of the resource that the node has taken up or refused
	Revision   string    `json:"revision"`   // what it runs, shortened
	Phase      string    `json:"phase"`      // an edge.Phase, or Refused
	Reason     string    `json:"reason"`
	Time       time.Time `json:"time"` // since when
}

// Refused is the phase of a function whose resource a node does not take. What
// it took before goes on running.
const Refused = "refused"

// A Condition is a statement about a resource, as is usual in Kubernetes.
type Condition struct {
	Type       string    `json:"type"`
	Status     string    `json:"status"` // True or False
	Reason     string    `json:"reason"`
	Message    string    `json:"message,omitempty"`
	Generation int64     `json:"observedGeneration,omitempty"`
	Time       time.Time `json:"lastTransitionTime"`
}

// The types of conditions.
const (
	Valid = "Valid" // the nodes take the resource
	Ready = "Ready" // every node that is to run the function runs it, or sleeps until an event comes
)

// Condition returns the condition of that type, if the status has it.
func (s Status) Condition(kind string) (Condition, bool) {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c, true
		}
	}
	return Condition{}, false
}

// MaxCode is the most that a function's code may weigh in a resource, bytes: an
// object of the API server holds little more than a megabyte.
const MaxCode = 900_000

// inlineName stands for code that a resource holds: a revision does not depend
// on where its code was.
const inlineName = "inline.js"

// Function returns the function that a resource defines. Its error is
// [functions.Faults] if the manifest is at fault.
func (r Resource) Function() (functions.Function, error) {
	var spec map[string]any
	d := json.NewDecoder(bytes.NewReader(r.Spec))
	d.UseNumber()
	if err := d.Decode(&spec); err != nil {
		return functions.Function{}, fmt.Errorf("read spec: %w", err)
	}
	code, err := takeCode(spec)
	if err != nil {
		return functions.Function{}, err
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": r.APIVersion, "kind": r.Kind, "spec": spec,
		"metadata": map[string]any{"name": r.Metadata.Name, "labels": nonNil(r.Metadata.Labels)},
	})
	if err != nil {
		return functions.Function{}, fmt.Errorf("read spec: %w", err)
	}
	m, err := functions.Parse("", text)
	if err != nil {
		return functions.Function{}, withoutLines(err)
	}
	f, err := functions.New(m, code)
	return f, withoutLines(err)
}

// takeCode takes the code out of spec, since a manifest's text may weigh less
// than code, and leaves a name in its place.
func takeCode(spec map[string]any) (string, error) {
	source, ok := spec["source"].(map[string]any)
	if !ok {
		return "", nil // Parse will tell
	}
	if _, ok := source["path"]; ok {
		return "", functions.Faults{{
			Field: "spec.source.path", Rule: functions.RuleUnavailable,
			Message: "a cluster has no folder that the file could be in",
			Hint:    "put the code into source.inline, as sedge deploy does, or name a container in source.image",
		}}
	}
	code, ok := source["inline"].(string)
	if !ok || code == "" {
		return "", nil
	}
	source = maps.Clone(source)
	delete(source, "inline")
	source["path"] = inlineName
	spec["source"] = source
	return code, nil
}

func nonNil(labels map[string]string) map[string]string {
	if labels == nil {
		return map[string]string{}
	}
	return labels
}

// withoutLines takes the places out of faults: the text was ours.
func withoutLines(err error) error {
	faults, ok := errors.AsType[functions.Faults](err)
	for i := range faults {
		faults[i].Line, faults[i].Column = 0, 0
	}
	if ok {
		return faults
	}
	return err
}

// NewResource returns the resource that defines f: code is a part of it.
func NewResource(f functions.Function) (Resource, error) {
	if len(f.Code) > MaxCode {
		return Resource{}, fmt.Errorf("the code weighs %d bytes: at most %d fit into a resource", len(f.Code), MaxCode)
	}
	m := f.Manifest
	if f.Code != "" {
		m.Spec.Source = functions.Source{Inline: f.Code}
	}
	spec, err := json.Marshal(m.Spec)
	if err != nil {
		return Resource{}, fmt.Errorf("encode spec: %w", err)
	}
	return Resource{
		TypeMeta: kube.TypeMeta{APIVersion: m.APIVersion, Kind: m.Kind}, Spec: spec,
		Metadata: kube.Meta{Name: f.Name(), Labels: m.Metadata.Labels},
	}, nil
}
