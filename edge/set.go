package edge

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sedge-iot/sedge/functions"
)

// Limits of what one node is told, so that its names always fit into a message.
const (
	MaxFunctions = 500     // of a node
	MaxPurged    = 250     // names of functions of old that are told with a whole
	MaxSignature = 256     // bytes
	MaxRevision  = 1 << 48 // of a position: past it nothing could follow
	maxEpoch     = 64      // bytes
)

// Digest names a set of functions, whatever their order: the SHA-256 of a line for
// each, by name, with its name, its revision, whether it is enabled and its signature, in
// base64url.
func Digest(refs []Ref) string {
	h := sha256.New()
	for _, r := range byName(refs) {
		fmt.Fprintf(h, "%s %s %t %s\n", r.Name, r.Revision, r.Enabled, r.Signature)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func byName(refs []Ref) []Ref {
	return slices.SortedFunc(slices.Values(refs), func(x, y Ref) int { return strings.Compare(x.Name, y.Name) })
}

// Plain returns the refs without the functions themselves, as they are kept and
// compared.
func Plain(refs []Ref) []Ref {
	plain := slices.Clone(refs)
	for i := range plain {
		plain[i].Function = nil
	}
	return plain
}

// Synced is where a node is: what it was told to run, and the position that this is.
// It is stored together with the functions themselves, in one transaction.
type Synced struct {
	At        Position `json:"at"`
	Functions []Ref    `json:"functions"`       // plain, by name
	Unfit     []Unfit  `json:"unfit,omitempty"` // those of them that the node does not run: it does not have them either
}

// A Set is all that some nodes are to run at one revision of the hub. It is never
// changed, and shared: nodes that are to run the same have the same Set, and what is
// told about it is encoded once for all of them. It may be used from several
// goroutines.
type Set struct {
	at    Position
	refs  []Ref // by name
	terms Terms
	told  []Removal // of what was purged, by name
	since int64     // the last revision at which something was purged

	mu     sync.Mutex
	wholes map[manner]*Whole   // guarded by mu
	deltas map[Position]*Delta // by where they begin; guarded by mu
}

// Terms are what goes with the functions of a set.
type Terms struct {
	Purged    map[string]int64 // functions of old whose state goes too, and at which revision; the newest MaxPurged are told
	Accepts   []string         // epochs that an operator has given up for this one
	Confirmed int64            // the last revision at which an operator confirmed how many functions go; 0 for none
}

// NewSet makes the set of a node at the hub's epoch and revision; the digest is
// added. A ref has its Function where the hub has it at hand: one that is small then
// travels with the names, the rest is fetched. The error says what no node can be told:
// more than MaxFunctions, a name twice, a revision that is none.
func NewSet(at Position, refs []Ref, terms Terms) (*Set, error) {
	s := &Set{refs: byName(refs), terms: terms, wholes: map[manner]*Whole{}, deltas: map[Position]*Delta{}}
	if err := checkRefs(s.refs); err != nil {
		return nil, fmt.Errorf("make set: %w", err)
	}
	for _, r := range s.refs {
		if r.Function != nil && r.Function.Revision != r.Revision {
			return nil, fmt.Errorf("make set: %s comes with revision %s, not %s", r.Name, r.Function.Revision.Short(), r.Revision.Short())
		}
	}
	s.purge(terms.Purged)
	s.at = Position{Epoch: at.Epoch, Revision: at.Revision, Digest: Digest(s.refs)}
	if err := checkPosition(s.at); err != nil {
		return nil, fmt.Errorf("make set: %w", err)
	}
	return s, nil
}

// purge notes the newest of what was purged. What is a function again is none of it.
func (s *Set) purge(purged map[string]int64) {
	newest := slices.SortedFunc(maps.Keys(purged), func(x, y string) int {
		return cmp.Or(cmp.Compare(purged[y], purged[x]), cmp.Compare(x, y))
	})
	for _, name := range newest {
		if _, again := find(s.refs, name); again || checkName(name) != nil || len(s.told) == MaxPurged {
			continue
		}
		s.told = append(s.told, Removal{Name: name, Purge: true, Revision: purged[name]})
		s.since = max(s.since, purged[name])
	}
	slices.SortFunc(s.told, func(x, y Removal) int { return cmp.Compare(x.Name, y.Name) })
}

// holds reports whether a node at that position has all of the set: the same
// functions, as of a revision after which nothing was purged.
func (s *Set) holds(at Position) bool {
	return at.Epoch == s.at.Epoch && at.Digest == s.at.Digest && s.since <= at.Revision && at.Revision <= s.at.Revision
}

// At returns the position that a node has with this set.
func (s *Set) At() Position { return s.at }

// Refs returns the functions of the set, by name. They belong to the set.
func (s *Set) Refs() []Ref { return s.refs }

// confirmed reports whether an operator knows what a node loses on the way here.
// A node of another epoch comes from before all that.
func (s *Set) confirmed(from Position) bool {
	if from.Epoch != s.at.Epoch {
		return s.terms.Confirmed > 0
	}
	return s.terms.Confirmed > from.Revision
}

// find looks for a name among refs that are in order.
func find(refs []Ref, name string) (Ref, bool) {
	i, ok := slices.BinarySearchFunc(refs, name, func(r Ref, name string) int { return strings.Compare(r.Name, name) })
	if !ok {
		return Ref{}, false
	}
	return refs[i], true
}

// checkRefs says what is wrong with refs that are to be in order.
func checkRefs(refs []Ref) error {
	if len(refs) > MaxFunctions {
		return fmt.Errorf("%d functions, a node is told of at most %d", len(refs), MaxFunctions)
	}
	before := ""
	for _, r := range refs {
		if err := checkName(r.Name); err != nil {
			return err
		}
		if r.Name <= before {
			return fmt.Errorf("%s is there twice, or out of order", r.Name)
		}
		if err := checkRevision(r.Revision); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		if err := CheckSignature(r.Signature); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		before = r.Name
	}
	return nil
}

// CheckSignature says why a signature, which may be "", cannot be sent.
func CheckSignature(s string) error {
	if len(s) > MaxSignature || !plainText(s) {
		return fmt.Errorf("the signature has more than %d bytes, or others than letters, digits and +/=_-.: among them", MaxSignature)
	}
	return nil
}

func checkName(name string) error {
	fits := func(c rune) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' }
	if name == "" || len(name) > 63 || strings.ContainsFunc(name, func(c rune) bool { return !fits(c) }) {
		return fmt.Errorf("%.70q is no name of a function", name)
	}
	return nil
}

func checkRevision(r functions.Revision) error {
	fits := func(c rune) bool { return 'a' <= c && c <= 'f' || '0' <= c && c <= '9' }
	if len(r) != 64 || strings.ContainsFunc(string(r), func(c rune) bool { return !fits(c) }) {
		return fmt.Errorf("%.70q is no revision", string(r))
	}
	return nil
}

// checkPosition says what is wrong with a position that a set of functions is to have.
func checkPosition(p Position) error {
	switch {
	case p.Epoch == "" || len(p.Epoch) > maxEpoch || !plainText(p.Epoch):
		return fmt.Errorf("%.70q is no epoch", p.Epoch)
	case p.Revision < 0:
		return fmt.Errorf("the revision is %d", p.Revision)
	case len(p.Digest) != base64.RawURLEncoding.EncodedLen(sha256.Size) || !plainText(p.Digest):
		return errors.New("the digest is none")
	}
	return nil
}

// plainText reports whether s may stand in a message and in the lines of [Digest]
// as it is.
func plainText(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && !strings.ContainsRune("+/=_-.:", c)
	})
}
