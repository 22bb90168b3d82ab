package upgrade

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// Whatever stands in a state: it is read as it is written, and leads nowhere but into the
// folder of versions.
func FuzzState(f *testing.F) {
	digest := strings.Repeat("0a", 32)
	f.Add([]byte(`{"selected":{"version":"v1.2.3-rc.1+x","digest":"` + digest + `","size":7},"trial":{"boots":2,"needs":["a"]},"installed":"v1"}`))
	f.Add([]byte(`{"selected":{"version":"v1","digest":"../` + digest[3:] + `","size":7}}`))
	f.Add([]byte(`{"previous":{"version":"v1/..","digest":"` + digest + `","size":7}}`))
	f.Add([]byte(`{"trial":{}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := parseState(data)
		if err != nil {
			return
		}
		for _, s := range []*Slot{st.Selected, st.Previous} {
			if s != nil && (filepath.Base(s.folder()) != s.folder() || !strings.HasPrefix(s.folder(), "v")) {
				t.Errorf("a slot has the folder %q", s.folder())
			}
		}
		text, err := json.Marshal(st)
		if err != nil {
			return // a time out of the range of JSON
		}
		again, err := parseState(text)
		if second, _ := json.Marshal(again); err != nil || string(second) != string(text) {
			t.Errorf("%s is read as %s, %v", text, second, err)
		}
	})
}

// Without the private key, no text is a signature.
func FuzzSignature(f *testing.F) {
	trusted, _, err := minisign.GenerateKey(strings.NewReader(strings.Repeat("k", 64)))
	if err != nil {
		f.Fatal(err)
	}
	_, stranger, err := minisign.GenerateKey(strings.NewReader(strings.Repeat("s", 64)))
	if err != nil {
		f.Fatal(err)
	}
	comment := Comment("program", "v1.0.0", "linux/arm64")
	f.Add(minisign.NewReader(strings.NewReader("")).SignWithComments(stranger, comment, ""))
	f.Add([]byte("untrusted comment: \n\ntrusted comment: \n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := signer([]minisign.PublicKey{trusted}, string(text), comment); err == nil {
			t.Errorf("%q was taken for a signature", text)
		}
	})
}

// What is read from a file of keys are keys, each of them what stands on a line.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("untrusted comment: minisign public key 1\nRWQBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"))
	f.Add([]byte("# none\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeys(text)
		if err == nil && (len(keys) == 0 || len(keys) > strings.Count(string(text), "\n")+1) {
			t.Errorf("%d keys in %q", len(keys), text)
		}
		for _, k := range keys {
			if len(point(k)) != 32 {
				t.Errorf("a key of %d bytes", len(point(k)))
			}
		}
	})
}

func TestAFullDiskRefuses(t *testing.T) {
	err := room(t.TempDir(), 1<<60)
	if r, ok := err.(*Refusal); !ok || r.Reason != RefusedRoom {
		t.Errorf("room for an exabyte: %v, want a refusal", err)
	}
}
