package functions

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// MaxManifest is the most that a manifest may weigh as text, bytes.
const MaxManifest = 256 << 10

// Parse reads a manifest from YAML, of which JSON is a part; file is what its
// faults call it. In the manifest that it returns every default is filled in
// and every rule holds. Its error is [Faults]: all of them, with their lines.
//
// Anchors, aliases, tags and a second document are refused.
func Parse(file string, yaml []byte) (Manifest, error) {
	d := &document{at: map[string]position{}, found: map[string]bool{}}
	var m Manifest
	if root := d.read(yaml); root != nil {
		d.decode(root, &m)
		d.merge(check(m))
	}
	if err := d.faults.err(file); err != nil {
		return Manifest{}, err
	}
	return withDefaults(m), nil
}

// Validate checks a manifest that did not come as text, such as one that was
// sent. Its error is [Faults], without lines.
func Validate(m Manifest) error {
	return Faults(check(m)).err("")
}

// A document is one manifest's text while it is read: where its fields stand
// and what is wrong with them.
type document struct {
	at     map[string]position // of the fields that are given
	faults Faults
	found  map[string]bool // fields that have a fault already
}

// A position is where something stands in a text, both from 1.
type position struct {
	line, column int
	plain        bool // the field's text stands there letter by letter
}

// fault adds a fault about field, which stands at p.
func (d *document) fault(p position, f Fault) {
	f.Line, f.Column = p.line, p.column
	d.faults = append(d.faults, f)
	d.found[f.Field] = true
}

// merge adds the faults that the rules found, except about what could not be
// read at all: that is told already.
func (d *document) merge(faults []Fault) {
	for _, f := range faults {
		if d.told(f.Field) {
			continue
		}
		p := d.nearest(f.Field)
		if p.plain {
			p.column += f.within
		}
		f.Line, f.Column = p.line, p.column
		d.faults = append(d.faults, f)
	}
}

// told reports whether field, what it is part of or a part of it has a fault.
func (d *document) told(field string) bool {
	for name := range d.found {
		if name == "" || name == field || partOf(name, field) || partOf(field, name) {
			return true
		}
	}
	return false
}

func partOf(part, whole string) bool {
	rest, ok := strings.CutPrefix(part, whole)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// nearest returns where field stands, or else what it would be part of.
func (d *document) nearest(field string) position {
	for {
		if p, ok := d.at[field]; ok {
			return p
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return d.at[""]
		}
		field = field[:i]
	}
}

// join returns the path of a field or key within parent.
func join(parent, name string) string {
	plain := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	switch {
	case !plain:
		return fmt.Sprintf("%s[%q]", parent, name)
	case parent == "":
		return name
	}
	return parent + "." + name
}

// canonical returns v as JSON that two equal values share: keys sorted, no
// spaces, absent what is empty.
func canonical(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

// sortedKeys returns the keys of m in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
