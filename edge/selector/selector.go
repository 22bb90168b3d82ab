package selector

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/sedge-iot/sedge/edge"
)

// MaxText is how long the text of a selector, of labels or of changes may be, bytes.
const MaxText = 4 << 10

// A Selector says of labels whether they are meant. The zero value means all. It does
// not change and may be used by several goroutines.
type Selector struct {
	of labels.Selector // nil for all
}

// Parse reads a selector in Kubernetes' syntax; "" is the one that matches everything.
// As in Kubernetes, != and notin also match labels that lack the key. The error is an
// [*edge.Error] that is Invalid.
func Parse(text string) (Selector, error) {
	if err := bounded("selector", text); err != nil {
		return Selector{}, err
	}
	of, err := labels.Parse(text)
	if err != nil {
		return Selector{}, &edge.Error{
			Code:    edge.Invalid,
			Message: fmt.Sprintf("selector %.200q: %v", text, err),
			Hint:    "write it as kubectl takes it, such as site=home,room in (hall,attic),!spare",
		}
	}
	return Selector{of}, nil
}

// Of returns the selector of labels that have all of want, as placement.nodes of a
// manifest means it. What is in want has been checked, with the manifest or by [Check].
func Of(want map[string]string) Selector {
	return Selector{labels.SelectorFromValidatedSet(want)}
}

// And returns the selector of what both match.
func And(a, b Selector) Selector {
	switch {
	case a.All():
		return b
	case b.All():
		return a
	}
	of, _ := a.of.Requirements() // what Parse and Of make can always be selected
	more, _ := b.of.Requirements()
	of = slices.Clone(of)
	for _, r := range more {
		if !slices.ContainsFunc(of, r.Equal) {
			of = append(of, r)
		}
	}
	return Selector{labels.NewSelector().Add(of...)}
}

// Covers reports whether s leaves nothing out that the other matches, as far as their parts
// show: what only a thought about the values would tell it does not see.
func (s Selector) Covers(other Selector) bool { return And(s, other).String() == other.String() }

// Matches reports whether the labels are meant.
func (s Selector) Matches(of map[string]string) bool {
	return s.of == nil || s.of.Matches(labels.Set(of))
}

// All reports whether the selector leaves nothing out.
func (s Selector) All() bool { return s.of == nil || s.of.Empty() }

// String returns a text that [Parse] reads as a selector of the same meaning, its
// parts sorted by key; "" for all.
func (s Selector) String() string {
	if s.of == nil {
		return ""
	}
	return s.of.String()
}

// bounded refuses text that is too long or that holds what nobody types. A NUL would
// end the selector for the library, which says nothing of what it then leaves out.
func bounded(what, text string) error {
	if len(text) > MaxText {
		return &edge.Error{
			Code:    edge.TooLarge,
			Message: fmt.Sprintf("the %s has %d bytes, at most %d are taken", what, len(text), MaxText),
			Hint:    "choose by fewer labels, or by one that all of them have",
		}
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\r\n", r) }); i >= 0 {
		return &edge.Error{
			Code:    edge.Invalid,
			Message: fmt.Sprintf("the %s %.80q has a control character at byte %d", what, text, i),
			Hint:    "write it by hand: what was pasted brought more than can be seen",
		}
	}
	return nil
}
