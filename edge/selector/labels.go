package selector

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/sedge-iot/sedge/edge"
)

// MaxLabels is how many labels a node may have.
const MaxLabels = 100

const rules = "a key is like room or example.com/room, key and value of up to 63 letters, digits, - _ . with a letter or digit at either end"

// Check refuses labels that Kubernetes would not take, and more than [MaxLabels]. The
// error is an [*edge.Error] that is Invalid.
func Check(of map[string]string) error {
	if len(of) > MaxLabels {
		return invalid("", "%d labels, at most %d are taken", len(of), MaxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(of)) {
		if err := checkKey(key); err != nil {
			return err
		}
		if err := checkValue(key, of[key]); err != nil {
			return err
		}
	}
	return nil
}

// ParseLabels reads labels such as "site=home,room=hall"; "" for none. A key comes
// once. The error is an [*edge.Error].
func ParseLabels(text string) (map[string]string, error) {
	changes, err := ParseChanges(text)
	if err != nil {
		return nil, err
	}
	of := map[string]string{}
	for key, value := range changes {
		if value == nil {
			return nil, invalid("write key=value; with a minus at its end a label is taken away", "%s- names no label to begin with", key)
		}
		of[key] = *value
	}
	return of, Check(of)
}

// Changes are what is to become of labels: key → the new value, or nil to take the
// label away. As JSON they are a merge patch.
type Changes map[string]*string

// ParseChanges reads changes as kubectl label takes them, apart by commas:
// "site=home,spare-" sets one and takes one away; "" changes nothing. A key comes
// once. The error is an [*edge.Error].
func ParseChanges(text string) (Changes, error) {
	if err := bounded("text of labels", text); err != nil {
		return nil, err
	}
	changes := Changes{}
	if strings.TrimSpace(text) == "" {
		return changes, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		key, value, err := parseChange(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if _, twice := changes[key]; twice {
			return nil, invalid("write it once", "label %q comes twice", key)
		}
		changes[key] = value
	}
	return changes, changes.Check()
}

// parseChange reads one change; the value is nil if the label is to go.
func parseChange(part string) (key string, value *string, err error) {
	if key, v, ok := strings.Cut(part, "="); ok {
		return key, &v, nil
	}
	if key, ok := strings.CutSuffix(part, "-"); ok {
		return key, nil, nil
	}
	return "", nil, invalid("write site=home to set a label, site- to take it away", "%q is neither a label with a value nor one to take away", part)
}

// Check refuses changes that no labels could follow. The error is an [*edge.Error].
func (c Changes) Check() error {
	if len(c) > 2*MaxLabels { // as many go as come
		return invalid("", "%d changes of labels, at most %d are taken", len(c), 2*MaxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(c)) {
		if err := checkKey(key); err != nil {
			return err
		}
		if c[key] == nil {
			continue
		}
		if err := checkValue(key, *c[key]); err != nil {
			return err
		}
	}
	return nil
}

// Apply returns what the labels are after the changes, which may take away what is not
// there; of stays as it is. An error is as of [Check].
func (c Changes) Apply(of map[string]string) (map[string]string, error) {
	next := map[string]string{}
	maps.Copy(next, of)
	for key, value := range c {
		if value == nil {
			delete(next, key)
		} else {
			next[key] = *value
		}
	}
	return next, Check(next)
}

func checkKey(key string) error {
	if len(validation.IsQualifiedName(key)) > 0 {
		return invalid(rules, "%.80q is no key of a label", key)
	}
	return nil
}

func checkValue(key, value string) error {
	if len(validation.IsValidLabelValue(value)) > 0 {
		return invalid(rules, "label %s: %.80q is no value of a label", key, value)
	}
	return nil
}

func invalid(hint, format string, args ...any) error {
	return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf(format, args...), Hint: hint}
}
