package member

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"
	"golang.org/x/crypto/blake2b"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Signers are the operators whose signatures a node wants: a hub that is in wrong hands
// can then run nothing new on it. The signatures are minisign's, of [SignedText].
type Signers struct{ keys []minisign.PublicKey }

// SignedText is what an operator signs to let a function run: a line, which stands for
// manifest and code by their digest. What minisign makes of a file with just that is a
// signature, whatever its comments:
//
//	sedge digest -f night-light > night-light.txt
//	minisign -Sm night-light.txt
func SignedText(name string, revision functions.Revision) string {
	return fmt.Sprintf("sedge function %s %s\n", name, revision)
}

// ParseSigners reads minisign public keys, one a line; comments are passed over.
func ParseSigners(text []byte) (*Signers, error) {
	s := &Signers{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "untrusted comment:") {
			continue
		}
		var key minisign.PublicKey
		if err := key.UnmarshalText([]byte(line)); err != nil {
			return nil, fmt.Errorf("%.60q is no minisign public key: %w", line, err)
		}
		s.keys = append(s.keys, key)
	}
	if len(s.keys) == 0 {
		return nil, errors.New("there is no minisign public key")
	}
	return s, nil
}

// PackSignature returns a signature as a [edge.Ref] has it, from the file that minisign
// writes: its line with the signature of the file. The other lines are comments, and a
// signature of these, which say nothing to a node.
func PackSignature(file []byte) (string, error) {
	var all minisign.Signature
	if err := all.UnmarshalText(file); err != nil {
		return "", fmt.Errorf("it is no signature of minisign: %w", err)
	}
	lines := strings.Split(string(file), "\n")
	packed := strings.TrimSpace(lines[1])
	if _, err := parseSignature(packed); err != nil {
		return "", err
	}
	return packed, nil
}

// A signature is what the line of a file of minisign says.
type signature struct {
	key uint64 // id of the one that signed
	sig []byte // ed25519, of the BLAKE2b-512 of the text
}

// signatureSize is of an algorithm, a key's id and the signature, bytes.
const signatureSize = 2 + 8 + ed25519.SignatureSize

func parseSignature(line string) (s signature, err error) {
	if len(line) > edge.MaxSignature {
		return s, errors.New("the signature is none")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || len(b) != signatureSize {
		return s, errors.New("the signature is none")
	}
	if string(b[:2]) != "ED" {
		return s, errors.New("the signature is not of minisign's hashed kind, which minisign -S -H makes")
	}
	return signature{binary.LittleEndian.Uint64(b[2:]), b[10:]}, nil
}

// Check says why a ref may not run by its signature, or nil.
func (s *Signers) Check(ref edge.Ref) error {
	if ref.Signature == "" {
		return errors.New("no operator has signed it")
	}
	sig, err := parseSignature(ref.Signature)
	if err != nil {
		return err
	}
	hash := blake2b.Sum512([]byte(SignedText(ref.Name, ref.Revision)))
	known := false
	for _, key := range s.keys {
		if key.ID() != sig.key {
			continue
		}
		if known = true; ed25519.Verify(point(key), hash[:], sig.sig) {
			return nil
		}
	}
	if !known {
		return fmt.Errorf("it is signed with the key %016X, which this node does not trust", sig.key)
	}
	return fmt.Errorf("what was signed with the key %016X is another function, or another revision of it", sig.key)
}

// point returns the ed25519 key in a minisign key, which has two bytes of an algorithm
// and eight of an id before it.
func point(k minisign.PublicKey) ed25519.PublicKey {
	b, err := base64.StdEncoding.DecodeString(k.String())
	if err != nil {
		panic(err) // a key that was read is one that can be written
	}
	return b[10:]
}
