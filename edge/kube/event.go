package kube

import "time"

// Events is the kind of [Event].
var Events = Kind[Event]{Version: "v1", Name: "Event", Plural: "events"}

// An Event is what kubectl describe shows below an object. One about an object
// that belongs to no namespace goes into the namespace default: the server takes
// it nowhere else.
type Event struct {
	TypeMeta
	Metadata   Meta        `json:"metadata"`
	Object     Reference   `json:"involvedObject"`
	Type       string      `json:"type"`   // Normal or Warning
	Reason     string      `json:"reason"` // one word
	Message    string      `json:"message"`
	Source     EventSource `json:"source"`
	First      *time.Time  `json:"firstTimestamp,omitempty"`
	Last       *time.Time  `json:"lastTimestamp,omitempty"`
	Count      int         `json:"count,omitempty"`
	Controller string      `json:"reportingComponent,omitempty"`
	Instance   string      `json:"reportingInstance,omitempty"`
}

// An EventSource is who tells of it.
type EventSource struct {
	Component string `json:"component,omitempty"`
	Host      string `json:"host,omitempty"`
}

// A Reference names any object.
type Reference struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
	UID        string `json:"uid,omitempty"`
}
