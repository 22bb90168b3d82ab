package edge

import "time"

// What is said of the node's program itself, since the same protocol number: who does
// not know it passes it over.
const (
	KindUpgrade      Kind = "upgrade"       // hub → node
	KindUpgradeChunk Kind = "upgrade.chunk" // hub → node
	KindUpgradeFetch Kind = "upgrade.fetch" // node → hub
)

// A Release is a version of the node's program for one platform.
type Release struct {
	Version   string `json:"version"`  // like v1.4.0
	Platform  string `json:"platform"` // like linux/arm64
	Digest    string `json:"digest"`   // SHA-256, hexadecimal
	Size      int64  `json:"size"`     // bytes
	Signature string `json:"signature"`
}

// MaxRelease is the most that a release may weigh, bytes.
const MaxRelease = 128 << 20

// An Upgrade tells a node which version it is to run, or to leave. The hub says it once in
// a session; the node fetches what it lacks, and begins anew with it once it is whole.
type Upgrade struct {
	Order int64 `json:"order"` // the number of the rollout that wants it
	Release
	Downgrade bool `json:"downgrade,omitempty"` // an operator wants it although it is older
	Leave     bool `json:"leave,omitempty"`     // the one before it is to run again
}

// An UpgradeFetch asks for a piece of a release.
type UpgradeFetch struct {
	Digest string `json:"digest"`
	Offset int64  `json:"offset"` // bytes
}

// An UpgradeChunk is the piece that was asked for: up to the next multiple of
// [ChunkSize], or to the end. One without data says that the release is not there.
type UpgradeChunk struct {
	Digest string `json:"digest"`
	Offset int64  `json:"offset"` // bytes
	Data   []byte `json:"data,omitempty"`
}

// An UpgradeReport says how it stands with a node's program.
type UpgradeReport struct {
	Version   string          `json:"version"`             // that runs
	Platform  string          `json:"platform"`            // that it was built for
	Digest    string          `json:"digest,omitempty"`    // of it, if it came from a hub
	Trial     bool            `json:"trial,omitempty"`     // it still has to prove itself
	Installed string          `json:"installed,omitempty"` // the version of the installed file
	Failed    *UpgradeFailure `json:"failed,omitempty"`    // what was given up last
	Refused   *UpgradeRefusal `json:"refused,omitempty"`   // what is not taken
	Fault     string          `json:"fault,omitempty"`     // why the node can keep no versions, or ""
}

// An UpgradeFailure is a version that a node has left by itself.
type UpgradeFailure struct {
	Order   int64     `json:"order"` // by which it came
	Version string    `json:"version"`
	Why     string    `json:"why"`
	Doubt   bool      `json:"doubt,omitempty"` // it may not have been the version's fault: it is tried once more
	Time    time.Time `json:"time"`            // by the node's clock
}

// An UpgradeRefusal is a version that a node does not take.
type UpgradeRefusal struct {
	Order   int64  `json:"order"`
	Version string `json:"version"`
	Why     string `json:"why"`
	Held    bool   `json:"held,omitempty"` // by the node's owner, for now
}

// An UpgradeAsk starts the rollout of a version.
type UpgradeAsk struct {
	Version   string        `json:"version"`
	Selector  string        `json:"selector,omitempty"` // of nodes; "" for all
	Stages    []Stage       `json:"stages,omitempty"`   // none: every node at once
	Bake      time.Duration `json:"bake,omitempty"`     // nanoseconds that a stage lasts at least
	Patience  time.Duration `json:"patience,omitempty"` // nanoseconds until a stage that is not passed pauses; 0 for an hour
	Downgrade bool          `json:"downgrade,omitempty"`
}

// An UpgradeRollout is the staged move of nodes to a version: a rollout whose To is the
// version, and whose Function is none.
type UpgradeRollout struct {
	Rollout
	Downgrade bool `json:"downgrade,omitempty"`
}

func (*Upgrade) Kind() Kind      { return KindUpgrade }
func (*UpgradeFetch) Kind() Kind { return KindUpgradeFetch }
func (*UpgradeChunk) Kind() Kind { return KindUpgradeChunk }
