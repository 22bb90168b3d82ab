package edge

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// Digest names a set of functions, whatever their order: the SHA-256 of a line for
// each, by name, with its name, its revision, whether it is enabled and its signature, in
// base64url.
func Digest(refs []Ref) string {
	sorted := slices.SortedFunc(slices.Values(refs), func(x, y Ref) int { return strings.Compare(x.Name, y.Name) })
	h := sha256.New()
	for _, r := range sorted {
		fmt.Fprintf(h, "%s %s %t %s\n", r.Name, r.Revision, r.Enabled, r.Signature)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
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
	Functions []Ref    `json:"functions"` // plain, by name
}
