package edge_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
)

func invitation(ca bool) edge.Invitation {
	v := edge.Invitation{
		Token:  "0123456789abcdef",
		Secret: []byte("sixteen bytes !!"),
		HubKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey),
	}
	if ca {
		sum := sha256.Sum256([]byte("a certificate"))
		v.CA = sum[:]
	}
	return v
}

func TestAnInvitationIsReadAsItWasWritten(t *testing.T) {
	for _, v := range []edge.Invitation{invitation(false), invitation(true)} {
		text := v.String()
		got, err := edge.ParseInvitation(text)
		if err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
		wrapped := " " + text[:40] + "\r\n\t" + text[40:] + "\n"
		if got, err := edge.ParseInvitation(wrapped); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%q is read as %+v, %v", wrapped, got, err)
		}
	}
}

// The text is what nodes and hubs of every version read.
func TestTheTextOfAnInvitationStays(t *testing.T) {
	for text, v := range map[string]edge.Invitation{
		"S1AQABI0VniavN73NpeHRlZW4gYnl0ZXMgISE7aie8zrakLWKjqNAqbw1zZTIVdx3iQ6Y6wEihi1naKUXN6hY":                                            invitation(false),
		"S1AQEBI0VniavN73NpeHRlZW4gYnl0ZXMgISE7aie8zrakLWKjqNAqbw1zZTIVdx3iQ6Y6wEihi1naKYGs12IUD6aSoUKCLS--Tcb1S8qlAfaKs35a7tC6_k2ZBPXepg": invitation(true),
	} {
		if got := v.String(); got != text {
			t.Errorf("it is %q, want %q", got, text)
		}
	}
}

// Every slip in copying is told as one, and tells nothing of the secret.
func TestASlipInCopyingAnInvitationIsFound(t *testing.T) {
	text := invitation(true).String()
	for i := range text {
		for _, c := range "Aa0_" {
			slip := text[:i] + string(c) + text[i+1:]
			if slip == text {
				continue
			}
			if got, err := edge.ParseInvitation(slip); err == nil {
				t.Fatalf("%q is read as %+v", slip, got)
			}
		}
		if _, err := edge.ParseInvitation(text[:i]); err == nil {
			t.Fatalf("the first %d letters of it are read", i)
		}
		if i > 0 && text[i] != text[i-1] {
			if _, err := edge.ParseInvitation(text[:i-1] + text[i:i+1] + text[i-1:i] + text[i+1:]); err == nil {
				t.Fatalf("it is read though the letters %d and %d changed places", i-1, i)
			}
		}
	}
}

func TestTheErrorOfAnInvitationSaysWhatToDo(t *testing.T) {
	text := invitation(true).String()
	data, _ := base64.RawURLEncoding.DecodeString(text[2:])
	newer := func(i int, b byte) string {
		d := bytes.Clone(data)
		d[i] = b
		return "S1" + base64.RawURLEncoding.EncodeToString(d)
	}
	for text, want := range map[string]string{
		"":                  "it is empty",
		"eyJhbGciOiJIUzI1N": "one begins with S1",
		"S2" + text[2:]:     "use the agent that belongs to the hub",
		newer(0, 2):         "newer hub",
		newer(1, 2):         "newer hub",
		text[:60]:           "end",
		text[:20] + "*":     "copy it again",
		text + text[2:]:     "copy it again",
		newer(40, 7):        "a letter of it is not as it was made",
		newer(20, 0):        "a letter of it is not as it was made",
	} {
		_, err := edge.ParseInvitation(text)
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 200 {
			t.Errorf("%.20q…: %v, want %q", text, err, want)
		}
	}
}

func TestWhatLacksSomethingIsNoInvitation(t *testing.T) {
	for name, change := range map[string]func(*edge.Invitation){
		"token":  func(v *edge.Invitation) { v.Token = "0123" },
		"hex":    func(v *edge.Invitation) { v.Token = "0123456789abcdeg" },
		"secret": func(v *edge.Invitation) { v.Secret = nil },
		"key":    func(v *edge.Invitation) { v.HubKey = v.HubKey[1:] },
		"CA":     func(v *edge.Invitation) { v.CA = v.CA[1:] },
	} {
		v := invitation(true)
		if change(&v); v.String() != "" {
			t.Errorf("%s: it is %q", name, v.String())
		}
	}
}

func TestALogDoesNotHoldAnInvitation(t *testing.T) {
	var log bytes.Buffer
	v := invitation(true)
	slog.New(slog.NewTextHandler(&log, nil)).Info("joins", "with", v)
	if s := log.String(); !strings.Contains(s, v.Token) || strings.Contains(s, v.String()) || strings.Contains(s, fmt.Sprint(v.Secret)) {
		t.Errorf("it holds %s", s)
	}
}

// Whatever is read is what one invitation, and no other, is written as.
func FuzzParseInvitation(f *testing.F) {
	f.Add(invitation(false).String())
	f.Add(invitation(true).String())
	f.Add(" S1\nAQ")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := edge.ParseInvitation(text)
		if err != nil {
			return
		}
		if got := v.String(); got != strings.Join(strings.Fields(text), "") {
			t.Errorf("%q is read as %+v, which is written %q", text, v, got)
		}
	})
}
