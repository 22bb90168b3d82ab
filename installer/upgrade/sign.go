package upgrade

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"aead.dev/minisign"
	"golang.org/x/mod/semver"
)

// Limits of what a signature is checked with, bytes.
const (
	maxKeys      = 64 << 10 // of a file of keys
	maxSignature = 1 << 10
)

// Comment returns the trusted comment under which a program is to be signed. An old
// version is signed, too, and so is every other program: what is signed says which it is.
func Comment(program, version, platform string) string {
	return program + " " + version + " " + platform
}

// SignedAs returns as what a program was signed, as far as the signature says: nobody has
// looked yet whose it is.
func SignedAs(signature string) (program, version, platform string, err error) {
	s, err := parseSignature(signature)
	if err != nil {
		return "", "", "", err
	}
	parts := strings.Split(s.TrustedComment, " ")
	if len(parts) != 3 || !semver.IsValid(parts[1]) || len(parts[1]) > maxVersion {
		return "", "", "", fmt.Errorf("its trusted comment is %.100q, and is to be like %q", s.TrustedComment, Comment("sedge-agent", "v1.4.0", "linux/arm64"))
	}
	return parts[0], parts[1], parts[2], nil
}

// parseSignature reads a signature of minisign's hashed kind: the old one would sign a
// hash as if that were a file.
func parseSignature(text string) (s minisign.Signature, err error) {
	if len(text) > maxSignature {
		return s, fmt.Errorf("the signature has more than %d bytes", maxSignature)
	}
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return s, err
	}
	if s.Algorithm != minisign.HashEdDSA {
		return s, errors.New("the signature is not of minisign's hashed kind")
	}
	return s, nil
}

// ReadKeys reads a file of minisign public keys: one or several, as minisign writes
// them, one below the other.
func ReadKeys(path string) ([]minisign.PublicKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeys+1))
	if err == nil && len(text) > maxKeys {
		err = fmt.Errorf("more than %d bytes", maxKeys)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func parseKeys(text []byte) (keys []minisign.PublicKey, err error) {
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' || bytes.HasPrefix(line, []byte("untrusted comment:")) {
			continue
		}
		var k minisign.PublicKey
		if err := k.UnmarshalText(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return keys, nil
}

// signer returns the key that has signed the comment, which is as much of a signature
// as can be checked before the file is there.
func signer(keys []minisign.PublicKey, signature, comment string) (minisign.PublicKey, error) {
	none := minisign.PublicKey{}
	s, err := parseSignature(signature)
	if err != nil {
		return none, err
	}
	if s.TrustedComment != comment {
		return none, fmt.Errorf("what is signed is %.100q, not %q", s.TrustedComment, comment)
	}
	for _, k := range keys {
		if k.ID() == s.KeyID && ed25519.Verify(point(k), append(s.Signature[:], comment...), s.CommentSignature[:]) {
			return k, nil
		}
	}
	return none, fmt.Errorf("no trusted key has signed it; the signature names key %016X", s.KeyID)
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

// verify checks that the file is the slot's, to the byte.
func verify(path string, slot Slot) error { return verifySigned(path, slot, nil, "") }

// verifySigned checks that too, and that key has signed it, unless that is nil.
func verifySigned(path string, slot Slot, key *minisign.PublicKey, signature string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	digest := sha256.New()
	var r io.Reader = io.LimitReader(f, slot.Size+1)
	var signed *minisign.Reader
	if key != nil {
		signed = minisign.NewReader(r)
		r = signed
	}
	n, err := io.Copy(digest, r)
	switch {
	case err != nil:
		return err
	case n < slot.Size:
		return fmt.Errorf("%s: %d bytes, %d are missing", path, n, slot.Size-n)
	case n > slot.Size:
		return fmt.Errorf("%s: more than %d bytes", path, slot.Size)
	case hex.EncodeToString(digest.Sum(nil)) != slot.Digest:
		return fmt.Errorf("%s: damaged: it has another SHA-256", path)
	case key != nil && !signed.Verify(*key, []byte(signature)):
		return fmt.Errorf("%s: the signature is of another file", path)
	}
	return nil
}
