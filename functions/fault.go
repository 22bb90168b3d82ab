package functions

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Rule names the kind of rule that a manifest broke. The strings are sent.
type Rule string

// The rules.
const (
	RuleSyntax      Rule = "syntax"      // not YAML, or YAML that manifests do without
	RuleUnknown     Rule = "unknown"     // no such field
	RuleDuplicate   Rule = "duplicate"   // given twice
	RuleType        Rule = "type"        // a text where a number belongs, and the like
	RuleRequired    Rule = "required"    // missing
	RuleValue       Rule = "value"       // not one of the values that are allowed, or not written as it must be
	RuleRange       Rule = "range"       // too small, too large, too many
	RuleConflict    Rule = "conflict"    // does not go together with another field
	RuleExpression  Rule = "expression"  // an expression that cannot be compiled
	RuleUnavailable Rule = "unavailable" // not in this version
)

// A Fault is one thing wrong with a manifest.
type Fault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 if the manifest was not read from text
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Field   string `json:"field,omitempty"`  // spec.triggers[0].mqtt.topic
	Rule    Rule   `json:"rule"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do, as a sentence without its full stop; or ""

	within int // characters into the field's text at which the fault is, for expressions
}

// String returns the fault as one line: file:line: field: message. Hint: hint.
func (f Fault) String() string {
	var b strings.Builder
	switch {
	case f.File != "" && f.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
	case f.File != "":
		fmt.Fprintf(&b, "%s: ", f.File)
	case f.Line > 0:
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString(". Hint: " + f.Hint)
	}
	return b.String()
}

// Faults are all that is wrong with a manifest, in the order of its lines.
type Faults []Fault

// Error returns one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// maxFaults are told of one manifest: more would not be read.
const maxFaults = 100

// err returns the faults of file, sorted, as an error, or nil if there are none.
func (fs Faults) err(file string) error {
	if len(fs) == 0 {
		return nil
	}
	for i := range fs {
		fs[i].File = file
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(fs) - maxFaults; more > 0 {
		fs = append(fs[:maxFaults:maxFaults], Fault{File: file, Rule: RuleRange, Message: fmt.Sprintf("and %d more faults", more)})
	}
	return fs
}
