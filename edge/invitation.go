package edge

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode"
)

// An Invitation is what a join token says to the node that is given it: who it may say
// that it is, and by what it knows the hub, before it has said anything to anybody.
// The text of it is S1 and, in base64url:
//
//	1   version, 1
//	1   flags: bit 0, the hub has a CA of its own
//	8   id of the token
//	16  secret of the token
//	32  the hub's ed25519 key, public
//	32  SHA-256 of the hub's CA certificate (DER), only with bit 0
//	4   the first bytes of the SHA-256 of all before, against slips in copying
//
// It holds a secret: [Invitation.String] is for the person who asked for the token.
type Invitation struct {
	Token  string            // id: 16 hexadecimal digits
	Secret []byte            // 16 bytes
	HubKey ed25519.PublicKey // 32 bytes
	CA     []byte            // SHA-256 of the hub's CA certificate, or nil if others vouch for the hub
}

const (
	invitationMark    = "S1"
	invitationVersion = 1
	invitationCA      = 1 << 0 // flag
	invitationSum     = 4
	invitationShort   = 1 + 1 + tokenID + TokenSecret + ed25519.PublicKeySize + invitationSum
	tokenID           = 8
)

// TokenSecret is how long the secret of a join token is, bytes.
const TokenSecret = 16

// String returns the text, or "" if the invitation lacks something.
func (v Invitation) String() string {
	id, err := hex.DecodeString(v.Token)
	if err != nil || len(id) != tokenID || len(v.Secret) != TokenSecret || len(v.HubKey) != ed25519.PublicKeySize {
		return ""
	}
	flags := byte(0)
	switch len(v.CA) {
	case 0:
	case sha256.Size:
		flags = invitationCA
	default:
		return ""
	}
	body := slices.Concat([]byte{invitationVersion, flags}, id, v.Secret, v.HubKey, v.CA)
	sum := sha256.Sum256(body)
	return invitationMark + base64.RawURLEncoding.EncodeToString(append(body, sum[:invitationSum]...))
}

// LogValue keeps the secret out of logs.
func (v Invitation) LogValue() slog.Value { return slog.StringValue("join token " + v.Token) }

// ParseInvitation reads the text of a join token, in which spaces and line breaks may stand
// as copying leaves them. The error says what is wrong with it, without the secret.
func ParseInvitation(text string) (Invitation, error) {
	text = strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return -1
		}
		return c
	}, text)
	data, err := unwrapInvitation(text)
	if err != nil {
		return Invitation{}, fmt.Errorf("read join token: %w", err)
	}
	body, sum := data[:len(data)-invitationSum], sha256.Sum256(data[:len(data)-invitationSum])
	if !bytes.Equal(sum[:invitationSum], data[len(body):]) {
		return Invitation{}, errors.New("read join token: a letter of it is not as it was made: copy it again")
	}
	v := Invitation{
		Token:  hex.EncodeToString(body[2:10]),
		Secret: body[10:26:26],
		HubKey: ed25519.PublicKey(body[26:58:58]),
	}
	if body[1]&invitationCA != 0 {
		v.CA = body[58:]
	}
	return v, nil
}

// unwrapInvitation returns the bytes of a text whose length is right.
func unwrapInvitation(text string) ([]byte, error) {
	most := len(invitationMark) + base64.RawURLEncoding.EncodedLen(invitationShort+sha256.Size)
	switch {
	case text == "":
		return nil, errors.New("it is empty")
	case len(text) > 10*most || text[0] != invitationMark[0]:
		return nil, errors.New("it is none: one begins with S1")
	case !strings.HasPrefix(text, invitationMark):
		return nil, errors.New("it begins with neither S1 nor anything that this version knows: use the agent that belongs to the hub")
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text[len(invitationMark):])
	if err != nil {
		return nil, errors.New("it holds what no join token does, or its end is missing: copy it again")
	}
	if len(data) < 2 {
		return nil, errors.New("the end of it is missing: copy it again")
	}
	if data[0] != invitationVersion || data[1]&^invitationCA != 0 {
		return nil, errors.New("a letter of it is not as it was made, or it is of a newer hub: copy it again, or use the agent that belongs to the hub")
	}
	want := invitationShort
	if data[1]&invitationCA != 0 {
		want += sha256.Size
	}
	switch {
	case len(data) < want:
		return nil, errors.New("the end of it is missing: copy it again")
	case len(data) > want:
		return nil, errors.New("there is more than a join token: copy it again")
	}
	return data, nil
}
