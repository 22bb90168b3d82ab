package member

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Signers are the operators whose signatures a node wants: a hub that is in wrong hands
// can then run nothing new on it. The signatures are minisign's, of [SignedText].
type Signers struct{ keys []minisign.PublicKey }

// SignedText is what an operator signs to let a function run, and also the trusted
// comment of the signature:
//
//	minisign -S -m text -t "$(cat text)"
func SignedText(name string, revision functions.Revision) string {
	return fmt.Sprintf("sedge function %s %s", name, revision)
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
// writes: its two lines of base64 with a colon between. What else is in the file follows
// from the function.
func PackSignature(file []byte) (string, error) {
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	if len(lines) != 4 {
		return "", errors.New("it is no file of minisign: that has four lines")
	}
	var sig minisign.Signature
	if err := sig.UnmarshalText(file); err != nil {
		return "", fmt.Errorf("read signature: %w", err)
	}
	packed := strings.TrimSpace(lines[1]) + ":" + strings.TrimSpace(lines[3])
	if len(packed) > edge.MaxSignature {
		return "", fmt.Errorf("the signature has %d bytes, at most %d are sent", len(packed), edge.MaxSignature)
	}
	return packed, nil
}

// Check says why a ref may not run by its signature, or nil.
func (s *Signers) Check(ref edge.Ref) error {
	if ref.Signature == "" {
		return errors.New("no operator has signed it")
	}
	one, other, ok := strings.Cut(ref.Signature, ":")
	if !ok || len(ref.Signature) > edge.MaxSignature || strings.ContainsAny(ref.Signature, "\r\n") {
		return errors.New("the signature is none")
	}
	text := SignedText(ref.Name, ref.Revision)
	var file bytes.Buffer
	fmt.Fprintf(&file, "untrusted comment: sedge\n%s\ntrusted comment: %s\n%s\n", one, text, other)
	var sig minisign.Signature
	if err := sig.UnmarshalText(file.Bytes()); err != nil {
		return errors.New("the signature is none")
	}
	for _, key := range s.keys {
		if key.ID() == sig.KeyID && minisign.Verify(key, []byte(text), file.Bytes()) {
			return nil
		}
	}
	return errors.New("none of the operators that this node trusts has signed it")
}
