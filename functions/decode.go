package functions

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decode stores the tree below root in m and tells everything in it that has
// no place there.
func (d *document) decode(root ast.Node, m *Manifest) {
	d.at[""] = position{line: 1, column: 1}
	d.value(root, reflect.ValueOf(m).Elem(), "")
}

func (d *document) value(n ast.Node, v reflect.Value, field string) {
	if _, null := n.(*ast.NullNode); null {
		return // as if it were not there
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, v, text, field)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), field)
	case reflect.Struct:
		d.object(n, v, field)
	case reflect.Map:
		d.table(n, v, field)
	case reflect.Slice:
		d.list(n, v, field)
	default:
		d.scalar(n, v, field)
	}
}

// object reads a mapping whose keys are the fields of a struct.
func (d *document) object(n ast.Node, v reflect.Value, field string) {
	pairs, ok := d.pairs(n, field)
	if !ok {
		return
	}
	index := fieldsOf(v.Type())
	for _, p := range pairs {
		i, known := index[p.key]
		if !known {
			d.unknown(p, field, sortedKeys(index))
			continue
		}
		name := join(field, p.key)
		d.value(p.value, v.Field(i), name)
		d.zero(p, v.Field(i), name)
	}
}

// unknown tells that p is no field, and what it may have been meant to be.
func (d *document) unknown(p pair, parent string, known []string) {
	hint := "the fields here are " + sentence(known, "and")
	if near := nearest(p.key, known); near != "" {
		hint = "did you mean " + near + "?"
		d.found[join(parent, near)] = true // else it would be told missing
	}
	d.fault(p.at, Fault{Field: join(parent, p.key), Rule: RuleUnknown, Message: "is no field of a manifest", Hint: hint})
}

// zero tells about an explicit 0 where leaving the field out means a default:
// the default would silently take its place.
func (d *document) zero(p pair, v reflect.Value, field string) {
	_, null := p.value.(*ast.NullNode)
	number := v.Kind() == reflect.Int || v.Kind() == reflect.Int64
	if null || !number || !v.IsZero() || d.found[field] || field == "spec.scaling.min" {
		return
	}
	d.fault(d.at[field], Fault{Field: field, Rule: RuleRange, Message: "cannot be 0", Hint: "leave the field out to have its default"})
}

// table reads a mapping from text to text.
func (d *document) table(n ast.Node, v reflect.Value, field string) {
	pairs, ok := d.pairs(n, field)
	if !ok {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(pairs)))
	for _, p := range pairs {
		elem, name := reflect.New(v.Type().Elem()).Elem(), join(field, p.key)
		if _, null := p.value.(*ast.NullNode); null { // an entry is there, with or without a value
			d.wrong(p.value, name, "a text", `write "" for an empty one`)
		}
		d.value(p.value, elem, name)
		v.SetMapIndex(reflect.ValueOf(p.key), elem)
	}
}

func (d *document) list(n ast.Node, v reflect.Value, field string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(n, field, "a list", "write - before each entry, or put the entry in [ ]")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, n := range seq.Values {
		name := fmt.Sprintf("%s[%d]", field, i)
		d.at[name] = positionOf(n.GetToken())
		if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
			d.at[name] = positionOf(m.Values[0].Key.GetToken())
		}
		d.value(n, v.Index(i), name)
	}
}

// text reads what has a notation of its own: durations and sizes.
func (d *document) text(n ast.Node, v reflect.Value, into encoding.TextUnmarshaler, field string) {
	var text string
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.IntegerNode:
		text = n.Token.Value
	default:
		d.wrong(n, field, "a "+strings.ToLower(v.Type().Name()), "")
		return
	}
	if err := into.UnmarshalText([]byte(text)); err != nil {
		d.fault(d.at[field], Fault{Field: field, Rule: RuleType, Message: err.Error()})
	}
}

func (d *document) scalar(n ast.Node, v reflect.Value, field string) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := stringOf(n); ok {
			v.SetString(s)
			return
		}
		hint := ""
		if _, scalar := n.(ast.ScalarNode); scalar {
			hint = "put it in quotes: " + strconv.Quote(n.GetToken().Value)
		}
		d.wrong(n, field, "a text", hint)
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		d.wrong(n, field, "true or false", "")
	default:
		d.integer(n, v, field)
	}
}

func (d *document) integer(n ast.Node, v reflect.Value, field string) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		d.wrong(n, field, "a whole number", "")
		return
	}
	text := i.Token.Value
	switch {
	case v.CanUint():
		if u, err := strconv.ParseUint(text, 10, v.Type().Bits()); err == nil {
			v.SetUint(u)
			return
		}
	default:
		if i, err := strconv.ParseInt(text, 10, 32); err == nil {
			v.SetInt(i)
			return
		}
	}
	d.fault(d.at[field], Fault{Field: field, Rule: RuleRange, Message: text + " is out of range or not written in decimal digits"})
}

// wrong tells that n is not what field takes.
func (d *document) wrong(n ast.Node, field, want, hint string) {
	p, ok := d.at[field]
	if !ok {
		p = positionOf(n.GetToken())
	}
	d.fault(p, Fault{Field: field, Rule: RuleType, Message: fmt.Sprintf("must be %s, is %s", want, kindOf(n)), Hint: hint})
}

// A pair is one entry of a mapping.
type pair struct {
	key   string
	value ast.Node
	at    position // of the key
}

// pairs returns the entries of a mapping, each key once, and notes where their
// values stand.
func (d *document) pairs(n ast.Node, field string) ([]pair, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.wrong(n, field, "a mapping of fields", "")
		return nil, false
	}
	pairs := make([]pair, 0, len(values))
	lines := map[string]int{}
	for _, v := range values {
		p := pair{key: keyOf(v.Key), value: v.Value, at: positionOf(v.Key.GetToken())}
		name := join(field, p.key)
		if line, twice := lines[p.key]; twice {
			d.faults = append(d.faults, Fault{
				Line: p.at.line, Column: p.at.column, Field: name, Rule: RuleDuplicate,
				Message: fmt.Sprintf("is given twice, first in line %d", line),
			})
			continue
		}
		lines[p.key] = p.at.line
		d.at[name] = valuePosition(v)
		pairs = append(pairs, p)
	}
	return pairs, true
}

// valuePosition returns where the value of v stands, or its key if the value
// is a mapping, a list, a block of text or nothing.
func valuePosition(v *ast.MappingValueNode) position {
	p := positionOf(v.Key.GetToken())
	p.plain = false
	switch n := v.Value.(type) {
	case *ast.StringNode:
		p = positionOf(n.Token)
		if t := n.Token.Type; t == token.SingleQuoteType || t == token.DoubleQuoteType {
			p.plain = !strings.ContainsAny(n.Token.Origin, `\`+"\n") && !strings.Contains(n.Token.Origin, "''")
			p.column++
		}
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		p = positionOf(n.GetToken())
	}
	return p
}

func keyOf(key ast.MapKeyNode) string {
	if s, ok := stringOf(key); ok {
		return s
	}
	return key.GetToken().Value
}

func stringOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode:
		return "a number"
	case *ast.FloatNode:
		return "a number with a point"
	case *ast.NullNode:
		return "nothing"
	}
	return "something else"
}

// fieldsOf returns the fields of a struct by their name in manifests.
func fieldsOf(t reflect.Type) map[string]int {
	index := map[string]int{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		index[name] = i
	}
	return index
}
