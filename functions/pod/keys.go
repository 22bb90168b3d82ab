package pod

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/sedge-iot/sedge/functions/pod/keeper"
)

// SecretSize is the size of the agent's secret, bytes.
const SecretSize = 32

// keys derives all that agent and pods need to know each other by.
type keys struct {
	secret []byte
	agent  []byte // the seed of the agent's own key
}

func newKeys(secret []byte) (keys, error) {
	if len(secret) != SecretSize {
		return keys{}, fmt.Errorf("the pods' secret has %d bytes, want %d", len(secret), SecretSize)
	}
	k := keys{secret: secret}
	k.agent = k.derive("", "sedge pod: agent", keeper.SeedSize)
	return k, nil
}

// derive returns n bytes for a purpose.
func (k keys) derive(nonce, purpose string, n int) []byte {
	b, err := hkdf.Key(sha256.New, k.secret, []byte(nonce), purpose, n)
	if err != nil {
		panic("derive key: " + err.Error()) // only if n were thousands
	}
	return b
}

// pod returns the seed of the key of the pod with that nonce.
func (k keys) pod(nonce string) []byte { return k.derive(nonce, "sedge pod: keeper", keeper.SeedSize) }

// user returns the number of the user and group of the pod with that nonce: one of
// its own, far from those that people and images use.
func (k keys) user(nonce string) int64 {
	n := binary.BigEndian.Uint32(k.derive(nonce, "sedge pod: user", 4))
	return 100_000 + int64(n%2_000_000_000)
}

// newNonce makes what tells a pod from all others.
func newNonce() string {
	b := make([]byte, 16)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
