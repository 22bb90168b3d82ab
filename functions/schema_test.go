package functions

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A node is a part of the schema.
type node struct {
	Ref         string          `json:"$ref"`
	Defs        map[string]node `json:"$defs"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	Type        any             `json:"type"`
	Const       any             `json:"const"`
	Enum        []any           `json:"enum"`
	Default     any             `json:"default"`
	Properties  map[string]node `json:"properties"`
	Items       *node           `json:"items"`
	Additional  json.RawMessage `json:"additionalProperties"`
}

func readSchema(t *testing.T) node {
	t.Helper()
	var root node
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// resolve follows n's reference; what n says itself goes first.
func resolve(root, n node) node {
	name, ok := strings.CutPrefix(n.Ref, "#/$defs/")
	if !ok {
		return n
	}
	to := root.Defs[name]
	if n.Title != "" {
		to.Title, to.Description = n.Title, n.Description
	}
	if n.Default != nil {
		to.Default = n.Default
	}
	return to
}

func TestSchemaHasTheFieldsOfManifestAndNoOthers(t *testing.T) {
	root := readSchema(t)
	compare(t, root, root, reflect.TypeFor[Manifest](), "manifest")
}

func compare(t *testing.T, root, n node, typ reflect.Type, at string) {
	t.Helper()
	n = resolve(root, n)
	if n.Title == "" || n.Description == "" {
		t.Errorf("%s: has no title or no description", at)
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return // a text with a pattern
	}
	switch typ.Kind() {
	case reflect.Struct:
		if string(n.Additional) != "false" {
			t.Errorf("%s: lets unknown fields pass", at)
		}
		index := fieldsOf(typ)
		if got, want := slices.Sorted(maps.Keys(n.Properties)), sortedKeys(index); !slices.Equal(got, want) {
			t.Errorf("%s: the schema has %v, the type has %v", at, got, want)
		}
		for name, i := range index {
			compare(t, root, n.Properties[name], typ.Field(i).Type, at+"."+name)
		}
	case reflect.Slice:
		item := resolve(root, *n.Items)
		if typ.Elem().Kind() == reflect.Struct {
			compare(t, root, item, typ.Elem(), at+"[]")
		}
		wantType(t, n, at, "array")
	case reflect.Map:
		wantType(t, n, at, "object")
	case reflect.String:
		wantType(t, n, at, "string")
	case reflect.Bool:
		wantType(t, n, at, "boolean")
	default:
		wantType(t, n, at, "integer")
	}
}

func wantType(t *testing.T, n node, at, want string) {
	t.Helper()
	if n.Type != want && (n.Type != nil || n.Enum == nil && n.Const == nil) {
		t.Errorf("%s: the schema says %v, want %s", at, n.Type, want)
	}
}

func TestSchemaNamesTheDefaults(t *testing.T) {
	root := readSchema(t)
	m := withDefaults(Manifest{Spec: Spec{
		Triggers: []Trigger{{MQTT: &MQTTTrigger{}, Schedule: &ScheduleTrigger{}, HTTP: &HTTPTrigger{}}},
		Output:   &Output{},
		Delivery: Delivery{Dedupe: &Dedupe{}},
	}})
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var filled any
	if err := json.Unmarshal(text, &filled); err != nil {
		t.Fatal(err)
	}
	compareDefaults(t, root, root, filled, "manifest")
}

func compareDefaults(t *testing.T, root, n node, value any, at string) {
	t.Helper()
	n = resolve(root, n)
	if list, ok := value.([]any); ok && n.Items != nil && n.Default == nil {
		compareDefaults(t, root, *n.Items, list[0], at+"[]")
		return
	}
	if n.Properties == nil {
		zero := value == nil || value == ""
		if zero && n.Default == float64(0) {
			return // absent, and 0
		}
		if got, want := fmt.Sprint(n.Default), fmt.Sprint(value); !zero && got != want || zero && n.Default != nil {
			t.Errorf("%s: the schema's default is %v, withDefaults has %v", at, n.Default, value)
		}
		return
	}
	object, _ := value.(map[string]any)
	for name, property := range n.Properties {
		if at == "manifest.metadata" || at == "manifest.spec.triggers[].schedule" {
			continue
		}
		compareDefaults(t, root, property, object[name], at+"."+name)
	}
}

func TestSchemaTakesWhatParseTakes(t *testing.T) {
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("function.json", parsed); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("function.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range goodManifests(t) {
		m, err := Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		filled, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{text, filled} {
			if err := compiled.Validate(toJSON(t, text)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	wrong := strings.Replace(manifest, "spec:", "spec:\n  timout: 5s", 1)
	if err := compiled.Validate(toJSON(t, []byte(wrong))); err == nil {
		t.Error("the schema takes an unknown field")
	}
}

func toJSON(t *testing.T, text []byte) any {
	t.Helper()
	text, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}
