package selector

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
)

func TestASelectorMeansWhatItMeansToKubernetes(t *testing.T) {
	hall := map[string]string{"site": "home", "room": "hall", "floor": "2", "spare": ""}
	for _, c := range []struct {
		text string
		want bool
	}{
		{"", true},
		{" ", true},
		{"site=home", true},
		{"site==home", true},
		{"site=Home", false},
		{"site = home , room = hall", true},
		{"site=home,room=attic", false},
		{"room in (hall, attic)", true},
		{"room in (attic)", false},
		{"room notin (attic)", true},
		{"tier!=test", true},
		{"tier notin (test)", true},
		{"tier=", false},
		{"spare=", true},
		{"spare", true},
		{"!spare", false},
		{"!tier", true},
		{"floor>1", true},
		{"floor>2", false},
		{"floor<3,floor>1", true},
		{"room>1", false},
		{"example.com/room", false},
	} {
		s, err := Parse(c.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", c.text, err)
			continue
		}
		if got := s.Matches(hall); got != c.want {
			t.Errorf("%q matches %v = %v, want %v", c.text, hall, got, c.want)
		}
	}
}

func TestTheEmptySelectorMeansAll(t *testing.T) {
	empty, err := Parse("")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Selector{{}, empty, Of(nil), And(Selector{}, empty)} {
		if !s.All() || !s.Matches(nil) || !s.Matches(map[string]string{"site": "home"}) || s.String() != "" {
			t.Errorf("%#v leaves something out or prints %q", s, s)
		}
	}
}

func TestASelectorThatIsNoneIsRefusedWithAHint(t *testing.T) {
	for _, text := range []string{
		"=home", "site=home room=hall", "site in home", "site in (home", "site=home,", ",", "a=b=c", "!a=b",
		"Ünder=x", "site=h h", "a/b/c=d", "floor>x", "site in ()x", strings.Repeat("k", 64),
	} {
		_, err := Parse(text)
		e, ok := errors.AsType[*edge.Error](err)
		if !ok || e.Code != edge.Invalid || e.Hint == "" {
			t.Errorf("Parse(%q): %#v, want an invalid with a hint", text, err)
		}
	}
}

// For the library a NUL ends the text: what follows it would be left out in silence,
// and more nodes would be meant than somebody wrote.
func TestASelectorIsReadToItsEnd(t *testing.T) {
	for _, text := range []string{"site=home\x00,room=hall", "\x00site=home", "site=home\x1b[2J"} {
		if s, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %q, want an error", text, s)
		}
	}
}

func TestASelectorHasALimit(t *testing.T) {
	text := strings.Repeat("a=b,", MaxText/4-1) + "a=b"
	if _, err := Parse(text); err != nil {
		t.Errorf("Parse of %d bytes: %v", len(text), err)
	}
	_, err := Parse(text + strings.Repeat(" ", MaxText))
	if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.TooLarge {
		t.Errorf("Parse of more than %d bytes: %v, want too large", MaxText, err)
	}
}

func TestBothSelectorsHoldOnceJoined(t *testing.T) {
	a, err := Parse("site=home,tier!=test")
	if err != nil {
		t.Fatal(err)
	}
	b := Of(map[string]string{"site": "home", "room": "hall"})
	both := And(a, b)
	if got, want := both.String(), "room=hall,site=home,tier!=test"; got != want {
		t.Errorf("And prints %q, want %q", got, want)
	}
	for _, c := range []struct {
		labels string
		want   bool
	}{
		{"site=home,room=hall", true},
		{"site=home", false},
		{"site=home,room=hall,tier=test", false},
	} {
		of, err := ParseLabels(c.labels)
		if err != nil {
			t.Fatal(err)
		}
		if got := both.Matches(of); got != c.want {
			t.Errorf("%v matches %q = %v, want %v", both, c.labels, got, c.want)
		}
	}
	if got, want := a.String(), "site=home,tier!=test"; got != want {
		t.Errorf("And made %q of its first selector, which was %q", got, want)
	}
}

// FuzzParse: what is read prints itself as a selector of the same meaning.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "site=home,room in (hall, attic),!spare", "a notin (,b),c>1", "in in (in)", "notin,!in", "a in ()", "a==b", "x\x00y"} {
		f.Add(text, "site", "home")
	}
	f.Fuzz(func(t *testing.T, text, key, value string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if len(s.String()) > MaxText { // blanks are added
			return
		}
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q prints itself as %q, and that as %q, %v", text, s, again, err)
		}
		for _, of := range []map[string]string{nil, {key: value}, {value: key, key: ""}} {
			if s.Matches(of) != again.Matches(of) || And(s, again).Matches(of) != s.Matches(of) {
				t.Fatalf("%q, %q and both disagree about %v", s, again, of)
			}
		}
	})
}

func TestLabelsAreReadAndChanged(t *testing.T) {
	hall := map[string]string{"site": "home", "room": "hall"}
	for _, c := range []struct {
		changes string
		want    map[string]string
	}{
		{"", hall},
		{"room=attic", map[string]string{"site": "home", "room": "attic"}},
		{"room-", map[string]string{"site": "home"}},
		{"site-,room-,example.com/tier=", map[string]string{"example.com/tier": ""}},
		{"nothing-", hall},
		{" room = attic", nil},
		{" room=attic , site- ", map[string]string{"room": "attic"}},
	} {
		changes, err := ParseChanges(c.changes)
		if c.want == nil {
			if err == nil {
				t.Errorf("ParseChanges(%q) = %v, want an error", c.changes, changes)
			}
			continue
		}
		if err != nil {
			t.Errorf("ParseChanges(%q): %v", c.changes, err)
			continue
		}
		if got, err := changes.Apply(hall); err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%q makes %v of %v, %v, want %v", c.changes, got, hall, err, c.want)
		}
	}
	if len(hall) != 2 || hall["room"] != "hall" {
		t.Errorf("the labels themselves have changed: %v", hall)
	}
}

func TestLabelsThatKubernetesWouldNotTakeAreRefusedWithAHint(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, text := range []string{
		"site", "site=home,", "=home", "-", "site=home,site=away", "site=home,site-", "si te=home", "site=ho me", "-site=home",
		"site=-home", "site=home-", long + "=a", "a=" + long, "a/b/c=d", "Example.com/a=b", "site==home", "site=a=b", "é=a", "site=home\x00",
	} {
		for name, read := range map[string]func(string) error{
			"ParseLabels":  func(s string) error { _, err := ParseLabels(s); return err },
			"ParseChanges": func(s string) error { _, err := ParseChanges(s); return err },
		} {
			e, ok := errors.AsType[*edge.Error](read(text))
			if !ok || e.Code != edge.Invalid || e.Hint == "" {
				t.Errorf("%s(%q): %v, want an invalid with a hint", name, text, e)
			}
		}
	}
	if _, err := ParseLabels("site-"); err == nil {
		t.Error("ParseLabels takes a label away")
	}
}

func TestANodeHasNoMoreLabelsThanTheLimit(t *testing.T) {
	full := map[string]string{}
	for i := range MaxLabels {
		full["k"+strings.Repeat("x", i%60)+string(rune('a'+i/60))] = "v"
	}
	if err := Check(full); err != nil || len(full) != MaxLabels {
		t.Fatalf("%d labels: %v", len(full), err)
	}
	one := "v"
	if _, err := (Changes{"another": &one}).Apply(full); err == nil {
		t.Errorf("%d labels are taken", MaxLabels+1)
	}
	if _, err := (Changes{"another": &one, "ka": nil}).Apply(full); err != nil {
		t.Errorf("one that comes as another goes: %v", err)
	}
}

// FuzzChanges: what is read makes labels that Kubernetes takes, and doing it twice
// changes nothing more.
func FuzzChanges(f *testing.F) {
	for _, text := range []string{"", "site=home,room-", "example.com/a=b", "a=,b=", "a--", "a=b-"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		changes, err := ParseChanges(text)
		if err != nil {
			return
		}
		once, err := changes.Apply(map[string]string{"site": "home"})
		if err != nil {
			if len(changes) <= MaxLabels {
				t.Fatalf("%q was read and cannot be done: %v", text, err)
			}
			return
		}
		if _, err := Parse(Of(once).String()); err != nil && len(Of(once).String()) <= MaxText {
			t.Fatalf("%q makes %v, which no selector can name: %v", text, once, err)
		}
		if twice, err := changes.Apply(once); err != nil || !maps.Equal(once, twice) {
			t.Fatalf("%q makes %v, then %v, %v", text, once, twice, err)
		}
	})
}
