package pod

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/sedge-iot/sedge/functions"
)

// The labels and annotations of pods. A pod is known by its labels, never by its
// name: a function may be called anything.
const (
	labelName     = "app.kubernetes.io/name"       // the function's, or "pool"
	labelManaged  = "app.kubernetes.io/managed-by" // managed
	labelNode     = "sedge.dev/node"
	labelFunction = "sedge.dev/function" // not on pool pods
	labelRevision = "sedge.dev/revision" // the first digits
	labelPool     = "sedge.dev/pool"     // "true" on pool pods

	annotationNonce    = "sedge.dev/nonce"
	annotationRevision = "sedge.dev/revision" // all digits
	annotationIdle     = "sedge.dev/idle"     // after which a pod that nobody uses goes

	managed = "sedge"
)

const maxLabel = 63

// labelValue returns s, or what stands for it where that is too long for a label.
func labelValue(s string) string {
	if len(s) <= maxLabel {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// podName returns a new name for a pod of f: FUNCTION-REV-xxxxx. A long function's
// name is cut, so that the whole stays a DNS label.
func podName(f functions.Function) string {
	const rest = len("-123456-12345")
	name := strings.TrimRight(f.Name()[:min(len(f.Name()), maxLabel-rest)], "-")
	return name + "-" + string(f.Revision[:6]) + "-" + suffix()
}

// suffix returns five characters in which no word can be read.
func suffix() string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, 5)
	rand.Read(b)
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b)
}
