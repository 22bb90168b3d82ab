package link

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/sedge-iot/sedge/edge"
)

// lowest is the oldest protocol that this program speaks; edge.Protocol is the newest.
const lowest = 1

// What each signature and key is for: none can be taken for another.
const (
	forWelcome = "sedge link 1 welcome"
	forProof   = "sedge link 1 proof"
	forSession = "sedge link 1 session"
	forHub     = "sedge link 1 node to hub"
	forNode    = "sedge link 1 hub to node"
)

// A transcript is the SHA-256 of what has been said so far.
type transcript [sha256.Size]byte

// welcomed is what the hub signs: the hello as it was sent, and all that the welcome
// says.
func welcomed(hello []byte, w edge.Welcome, hub ed25519.PublicKey) transcript {
	return digest(forWelcome, hello, number(int64(w.Protocol)), w.Ephemeral,
		number(w.Time.Unix()), number(int64(w.Time.Nanosecond())), hub)
}

// settled is what the keys hang on and the node signs: all of before, and the welcome
// as it was sent.
func settled(before transcript, welcome []byte) transcript {
	return digest(forSession, before[:], welcome)
}

// proven is what the node signs to show that it has its key.
func proven(t transcript, node ed25519.PublicKey) []byte {
	d := digest(forProof, t[:], node)
	return d[:]
}

// digest hashes the parts so that no other parts have the same digest.
func digest(label string, parts ...[]byte) (d transcript) {
	h := sha256.New()
	for _, p := range slices.Insert(parts, 0, []byte(label)) {
		h.Write(number(int64(len(p))))
		h.Write(p)
	}
	h.Sum(d[:0])
	return d
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// A stream seals or opens the messages of one direction. It is not for several
// goroutines at once.
type stream struct {
	aead  cipher.AEAD
	nonce [12]byte // zeros and the number of the next message, which is not sent
}

// overhead is what sealing adds to a message, bytes.
const overhead = 16

func newStream(secret []byte, t transcript, purpose string) (*stream, error) {
	key, err := hkdf.Key(sha256.New, secret, t[:], purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &stream{aead: aead}, err
}

// seal appends the sealed message to dst.
func (s *stream) seal(dst, plain []byte) []byte {
	defer s.step()
	return s.aead.Seal(dst, s.nonce[:], plain, nil)
}

// open opens the message in place.
func (s *stream) open(sealed []byte) ([]byte, error) {
	plain, err := s.aead.Open(sealed[:0], s.nonce[:], sealed, nil)
	if err != nil {
		return nil, ErrBroken
	}
	s.step()
	return plain, nil
}

func (s *stream) step() {
	n := binary.BigEndian.Uint64(s.nonce[4:]) + 1
	if n == 0 {
		panic("link: a session of 2^64 messages") // five million years of a message each nanosecond
	}
	binary.BigEndian.PutUint64(s.nonce[4:], n)
}
