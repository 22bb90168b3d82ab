package edge

import (
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// A Node is a machine with an agent, as the hub knows it.
type Node struct {
	ID        string            `json:"id"` // by its key, see [NodeID]
	Name      string            `json:"name"`
	Key       []byte            `json:"key"` // ed25519, public
	Labels    map[string]string `json:"labels,omitempty"`
	Standing  Standing          `json:"standing"`
	Why       string            `json:"why,omitempty"`      // it is fenced or revoked
	Cordoned  bool              `json:"cordoned,omitempty"` // it keeps what it runs and gets nothing new
	Joined    time.Time         `json:"joined"`
	Token     string            `json:"token,omitempty"`   // the id of the join token that it came with
	Counter   int64             `json:"counter,omitempty"` // of its last dial
	Address   string            `json:"address,omitempty"` // that it last came from
	Seen      time.Time         `json:"seen,omitzero"`     // when it was last connected, to the minute
	Version   string            `json:"version,omitempty"` // of its agent
	Platform  string            `json:"platform,omitempty"`
	At        Position          `json:"at"` // that it last said to be at
	Connected bool              `json:"connected"`
}

// PlacedBy returns the labels by which functions are placed on the node: its own, and
// its name as [functions.HostLabel].
func (n Node) PlacedBy() map[string]string {
	labels := maps.Clone(n.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[functions.HostLabel] = n.Name
	return labels
}

// A Standing is what the hub thinks of a node. The strings are the API's.
type Standing string

// The standings of a node.
const (
	Waiting  Standing = "waiting"  // for an operator's approval: it gets nothing
	Member   Standing = "member"   // of the fleet
	Fenced   Standing = "fenced"   // two machines came with its key: neither gets anything new until an operator approves
	Revoked  Standing = "revoked"  // for ever
	Departed Standing = "departed" // removed; its key may join again
)

// A NodeDetail is a node and how it is.
type NodeDetail struct {
	Node
	Functions []FunctionReport `json:"functions"`
	Unfit     []Unfit          `json:"unfit,omitempty"`
	Faults    []Check          `json:"faults,omitempty"`
	Refusal   *Refusal         `json:"refusal,omitempty"` // the last, if it still stands
	Away      *Away            `json:"away,omitempty"`    // what it told when it last came back
	Program   *UpgradeReport   `json:"program,omitempty"` // what it told of its own program
}

// A Hello begins a session: the node's ephemeral key is the challenge that the hub
// signs. It is sent in the clear.
type Hello struct {
	Protocols [2]int `json:"protocols"` // the lowest and the highest that the node speaks
	Ephemeral []byte `json:"ephemeral"` // X25519, public
}

// A Welcome is the hub's answer, signed over it and the hello: see package link.
type Welcome struct {
	Protocol  int       `json:"protocol"`
	Ephemeral []byte    `json:"ephemeral"` // X25519, public
	Time      time.Time `json:"time"`
	Signature []byte    `json:"signature"` // ed25519, of the hub's key
}

// A Proof says who the node is. It is the first sealed message of a session.
type Proof struct {
	Key       []byte            `json:"key"`       // ed25519, public
	Signature []byte            `json:"signature"` // of the session, by that key
	Counter   int64             `json:"counter"`   // of the node's dials, stored before each
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Platform  string            `json:"platform"`         // like linux/arm/6
	Labels    map[string]string `json:"labels,omitempty"` // if it comes for the first time; the hub keeps them from there on
	Join      *Join             `json:"join,omitempty"`   // if it comes for the first time
}

// A Join is what a join token gives a node to show.
type Join struct {
	Token  string `json:"token"`  // its id
	Secret []byte `json:"secret"` // of it
}

// A Verdict is what the hub says to a proof.
type Verdict struct {
	Admitted bool          `json:"admitted"`
	Waiting  bool          `json:"waiting,omitempty"` // for approval: come again after Retry
	Code     Code          `json:"code,omitempty"`    // why not
	Message  string        `json:"message,omitempty"`
	Retry    time.Duration `json:"retry,omitempty"` // nanoseconds; 0: as the node likes
	ID       string        `json:"id,omitempty"`
	Name     string        `json:"name,omitempty"` // that the hub has for the node
	Epoch    string        `json:"epoch,omitempty"`
}

// Diagnostics is what helps to find out what is wrong with a node. It holds no
// secrets, payloads or state.
type Diagnostics struct {
	Time      time.Time        `json:"time"`
	Version   string           `json:"version"`
	Go        string           `json:"go"`
	Platform  string           `json:"platform"`
	Kernel    string           `json:"kernel"`
	Board     string           `json:"board,omitempty"`
	Uptime    float64          `json:"uptimeSeconds"`
	Resident  int64            `json:"residentBytes"`
	Free      int64            `json:"freeBytes"` // on the disk of the data directory
	Synced    Position         `json:"synced"`
	Checks    []Check          `json:"checks"`
	Functions []FunctionStatus `json:"functions"`
}

// NodeID returns the id of the node that has the key: 16 letters and digits of its
// SHA-256.
func NodeID(key []byte) string {
	sum := sha256.Sum256(key)
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}
