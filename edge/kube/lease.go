package kube

import (
	"encoding/json"
	"time"
)

// Leases is the kind of [Lease].
var Leases = Kind[Lease]{Group: "coordination.k8s.io", Version: "v1", Name: "Lease", Plural: "leases"}

// A Lease says that somebody was there not long ago.
type Lease struct {
	TypeMeta
	Metadata Meta      `json:"metadata"`
	Spec     LeaseSpec `json:"spec"`
}

// A LeaseSpec is who, and when. The times are the holder's: compare them with
// other times of the same clock only.
type LeaseSpec struct {
	Holder      string     `json:"holderIdentity,omitempty"`
	Seconds     int        `json:"leaseDurationSeconds,omitempty"` // how long it holds without a sign
	Acquired    *MicroTime `json:"acquireTime,omitempty"`
	Renewed     *MicroTime `json:"renewTime,omitempty"`
	Transitions int        `json:"leaseTransitions,omitempty"` // how often the holder has changed
}

// A MicroTime is a time as leases write it: to the microsecond.
type MicroTime struct{ time.Time }

// MarshalJSON and UnmarshalJSON take the API's form of it.
func (t MicroTime) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format("2006-01-02T15:04:05.000000Z07:00"))
}

// UnmarshalJSON reads a time with any number of digits.
func (t *MicroTime) UnmarshalJSON(text []byte) error { return t.Time.UnmarshalJSON(text) }
