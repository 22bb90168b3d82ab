package member_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/functions"
)

func TestAWindowIsOpenAsItSays(t *testing.T) {
	for _, c := range []struct {
		window, at string // at: a day of the week and a time
		open       bool
	}{
		{"02:00-04:00", "Wed 02:00", true},
		{"02:00-04:00", "Wed 03:59", true},
		{"02:00-04:00", "Wed 04:00", false},
		{"02:00-04:00", "Wed 01:59", false},
		{"22:00-05:00", "Wed 23:00", true},
		{"22:00-05:00", "Wed 04:59", true},
		{"22:00-05:00", "Wed 12:00", false},
		{"Sat,Sun 02:00-04:00", "Sun 03:00", true},
		{"sat,sun 02:00-04:00", "Mon 03:00", false},
		{"Mon-Fri 22:00-05:00", "Sat 04:00", true},
		{"Mon-Fri 22:00-05:00", "Mon 04:00", false},
		{"Mon-Fri 22:00-05:00", "Sat 23:00", false},
		{"Fri-Mon 10:00-11:00", "Sun 10:30", true},
		{"Fri-Mon 10:00-11:00", "Wed 10:30", false},
	} {
		w, err := member.ParseWindow(c.window)
		if err != nil {
			t.Errorf("ParseWindow(%q) = %v", c.window, err)
			continue
		}
		day := map[string]int{"Mon": 2, "Wed": 4, "Fri": 6, "Sat": 7, "Sun": 8}[c.at[:3]] // of January 2023
		clock, err := time.Parse("15:04", c.at[4:])
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2023, 1, day, clock.Hour(), clock.Minute(), 0, 0, time.UTC)
		if got := w.Open(at); got != c.open {
			t.Errorf("%s is open at %s: %v, want %v", c.window, c.at, got, c.open)
		}
	}
	for _, text := range []string{"", "night", "02:00", "02:00-02:00", "2-4", "Foo 02:00-04:00", "Mon- 02:00-04:00", "Mon 02:00-04:00 x", "25:00-26:00"} {
		if w, err := member.ParseWindow(text); err == nil {
			t.Errorf("ParseWindow(%q) = %v, want an error", text, w)
		}
	}
}

// signed returns the file that minisign makes of one with that text.
func signed(t testing.TB, key minisign.PrivateKey, text string) []byte {
	t.Helper()
	r := minisign.NewReader(strings.NewReader(text)) // minisign.Sign is of the old kind
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	return r.Sign(key)
}

// sign signs a function as an operator does with minisign.
func sign(t testing.TB, key minisign.PrivateKey, name, revision string) string {
	t.Helper()
	text := member.SignedText(name, functions.Revision(revision))
	packed, err := member.PackSignature(signed(t, key, text))
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestOnlyWhatATrustedOperatorHasSignedRuns(t *testing.T) {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	s, err := member.ParseSigners(append([]byte("# operators\n"), text...))
	if err != nil {
		t.Fatal(err)
	}
	const revision = "aa"
	good := sign(t, private, "f", revision)
	for name, c := range map[string]struct {
		ref edge.Ref
		ok  bool
	}{
		"signed":                      {edge.Ref{Name: "f", Revision: revision, Signature: good}, true},
		"unsigned":                    {edge.Ref{Name: "f", Revision: revision}, false},
		"of another revision":         {edge.Ref{Name: "f", Revision: "bb", Signature: good}, false},
		"of another function":         {edge.Ref{Name: "g", Revision: revision, Signature: good}, false},
		"by somebody else":            {edge.Ref{Name: "f", Revision: revision, Signature: sign(t, other, "f", revision)}, false},
		"with a letter changed":       {edge.Ref{Name: "f", Revision: revision, Signature: strings.Replace(good, good[20:21], "_", 1)}, false},
		"with a line smuggled in":     {edge.Ref{Name: "f", Revision: revision, Signature: good + "\nx"}, false},
		"without its second half":     {edge.Ref{Name: "f", Revision: revision, Signature: good[:len(good)/2]}, false},
		"with halves of two of them":  {edge.Ref{Name: "f", Revision: revision, Signature: good[:60] + sign(t, private, "g", revision)[60:]}, false},
		"of the kind that hashes not": {edge.Ref{Name: "f", Revision: revision, Signature: "RWQ" + good[3:]}, false},
	} {
		if err := s.Check(c.ref); (err == nil) != c.ok {
			t.Errorf("%s: Check = %v", name, err)
		}
	}
	for _, text := range []string{"", "# nobody", "RWx", string(text) + "\nRWx"} {
		if _, err := member.ParseSigners([]byte(text)); err == nil {
			t.Errorf("ParseSigners(%q) = nil, want an error", text)
		}
	}
}

func FuzzCheckTakesNothingThatIsNotSigned(f *testing.F) {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	text, err := public.MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	s, err := member.ParseSigners(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("f", "aa", sign(f, private, "f", "aa"))
	f.Add("f", "bb", sign(f, private, "f", "aa"))
	f.Add("f", "aa", "RUQ=")
	f.Fuzz(func(t *testing.T, name, revision, signature string) {
		err := s.Check(edge.Ref{Name: name, Revision: functions.Revision(revision), Signature: signature})
		if signed := name == "f" && revision == "aa"; err == nil && !signed {
			t.Errorf("%q was taken for %q at %q, which nobody has signed", signature, name, revision)
		}
	})
}

func TestWhatIsNoSignatureOfMinisignIsNotPacked(t *testing.T) {
	_, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := string(signed(t, private, "x"))
	if _, err := member.PackSignature([]byte(good)); err != nil {
		t.Errorf("PackSignature = %v", err)
	}
	for name, file := range map[string]string{
		"empty":                       "",
		"a key":                       "untrusted comment: key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
		"cut":                         good[:len(good)-120],
		"something else":              strings.Repeat("x\n", 4),
		"of the kind that hashes not": string(minisign.Sign(private, []byte("x"))),
	} {
		if packed, err := member.PackSignature([]byte(file)); err == nil {
			t.Errorf("%s: PackSignature = %q, want an error", name, packed)
		}
	}
}
