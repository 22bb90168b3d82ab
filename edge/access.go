package edge

import (
	"slices"
	"time"
)

// A Token lets nodes join. Its secret is shown once, when it is made.
type Token struct {
	ID       string            `json:"id"`
	Labels   map[string]string `json:"labels,omitempty"` // that nodes get which join with it
	Uses     int               `json:"uses"`             // left
	Approval bool              `json:"approval"`         // nodes wait until an operator approves them
	Expires  time.Time         `json:"expires"`
	By       string            `json:"by"`
	Made     time.Time         `json:"made"`
}

// A TokenAsk is what a join token is to be.
type TokenAsk struct {
	TTL      time.Duration     `json:"ttl"` // nanoseconds; at most [MaxTokenTTL]
	Labels   map[string]string `json:"labels,omitempty"`
	Uses     int               `json:"uses,omitempty"`     // 0 for 1
	Approval bool              `json:"approval,omitempty"` // as of Token
}

// MaxTokenTTL is how long a join token may last.
const MaxTokenTTL = 24 * time.Hour

// A TokenMade is a new join token with what the node is to be given.
type TokenMade struct {
	Token
	Text string `json:"text"` // S1…: id, secret, and what pins the hub
}

// A Role is what an operator may do. Each may do what those before it may. The strings
// are stored and the API's.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // look at everything but secrets
	Deployer Role = "deployer" // change functions, run them, steer rollouts, redrive
	Admin    Role = "admin"    // nodes, tokens and operators too
)

// May reports whether the role allows what another one does.
func (r Role) May(what Role) bool {
	ranks := []Role{Viewer, Deployer, Admin}
	needed := slices.Index(ranks, what)
	return needed >= 0 && slices.Index(ranks, r) >= needed
}

// An Operator is somebody, or some program, with a token for the API.
type Operator struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Scope   string    `json:"scope,omitempty"` // a selector: the nodes that it may see and touch, and the only ones its deploys may reach
	Made    time.Time `json:"made"`
	By      string    `json:"by"`
	Used    time.Time `json:"used,omitzero"` // last, to the hour
	Expires time.Time `json:"expires,omitzero"`
}

// An OperatorMade is a new operator with its token, which is shown this once.
type OperatorMade struct {
	Operator
	Text string `json:"text"`
}

// An AuditEntry is one line of the audit log. Hash is the SHA-256 of the entry before
// it and of all its other fields: a line that is changed or missing shows.
type AuditEntry struct {
	Number  int64     `json:"number"`
	Time    time.Time `json:"time"`
	By      string    `json:"by"`      // an operator, or a node as node/NAME
	Address string    `json:"address"` // from where
	Action  string    `json:"action"`  // like function.deploy, node.approve, join.refused
	Object  string    `json:"object"`  // like function/night-light, node/hall
	Detail  string    `json:"detail,omitempty"`
	Hash    string    `json:"hash"`
}

// An AuditVerdict says whether the audit log is as it was written, from the oldest line
// that is kept to the newest.
type AuditVerdict struct {
	Intact bool   `json:"intact"`
	Broken int64  `json:"broken,omitempty"` // number of the first line that is altered or missing
	Why    string `json:"why,omitempty"`
}
