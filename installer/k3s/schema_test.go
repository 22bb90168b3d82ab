package k3s

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sedge-iot/sedge/functions"
)

const crdFile = "chart/templates/2-functions.yaml"

// crd is the definition of the Function resource, without the schema of its spec.
const crd = `# Made of the manifest's schema by the tests of installer/k3s: do not edit.
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: functions.sedge.dev
  labels:
    app.kubernetes.io/part-of: sedge
  annotations:
    helm.sh/resource-policy: keep # an uninstall would delete every function
spec:
  group: sedge.dev
  scope: Cluster
  names:
    kind: Function
    listKind: FunctionList
    plural: functions
    singular: function
    shortNames: [fn]
    categories: [all]
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
    additionalPrinterColumns:
    - name: Runtime
      type: string
      jsonPath: .spec.runtime
    - name: Revision
      type: string
      jsonPath: .status.revision
    - name: Ready
      type: string
      jsonPath: .status.conditions[?(@.type=="Ready")].status
    - name: Reason
      type: string
      jsonPath: .status.conditions[?(@.type=="Ready")].reason
    - name: Age
      type: date
      jsonPath: .metadata.creationTimestamp
    schema:
      openAPIV3Schema:
`

// status is the schema of what the nodes write.
const status = `
description: How the function is on the nodes of this cluster; written by them.
type: object
properties:
  observedGeneration: {description: The generation of the resource that revision and conditions are about., type: integer, format: int64}
  revision: {description: "What manifest and code are called, shortened: the name of a revision is its digest.", type: string, maxLength: 64}
  nodes:
    description: Each node that runs the function, by its name.
    type: object
    maxProperties: 500
    additionalProperties:
      type: object
      properties:
        generation: {description: The generation of the resource that the node has taken up., type: integer, format: int64}
        revision: {description: "What the node runs, shortened; the last good one if the resource is not valid.", type: string, maxLength: 64}
        phase: {description: "asleep, starting, running, disabled, paused, failing or refused.", type: string, maxLength: 32}
        reason: {description: Why., type: string, maxLength: 1024}
        time: {description: Since when., type: string, format: date-time}
  conditions:
    description: "Valid: the nodes take the manifest. Ready: every node that is to run the function runs it, or sleeps until an event comes."
    type: array
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [type]
    items:
      type: object
      required: [type, status, lastTransitionTime, reason]
      properties:
        type: {type: string, maxLength: 64}
        status: {type: string, enum: ["True", "False", Unknown]}
        observedGeneration: {type: integer, format: int64}
        lastTransitionTime: {type: string, format: date-time}
        reason: {description: One word for programs., type: string, maxLength: 1024}
        message: {description: The same for people., type: string, maxLength: 32768}
`

// elsewhere are rules of the manifest's schema that hold otherwise in a cluster.
var elsewhere = map[string]yaml.MapSlice{
	"Source": {{Key: "x-kubernetes-validations", Value: []any{yaml.MapSlice{
		{Key: "rule", Value: "!has(self.path)"},
		{Key: "message", Value: "a cluster has no folder to read source.path from: put the code into source.inline, as sedge deploy does, or name a container in source.image"},
	}}}},
}

func TestTheResourceHasTheManifestsSchema(t *testing.T) {
	checkFile(t, crdFile, []byte(crd+indent(encode(t, resourceSchema(t)), 8)))
}

// resourceSchema turns the schema of manifests into what the API server takes:
// structural, without references.
func resourceSchema(t *testing.T) yaml.MapSlice {
	t.Helper()
	var root, extra yaml.MapSlice
	for into, text := range map[*yaml.MapSlice][]byte{&root: functions.Schema(), &extra: []byte(status)} {
		if err := yaml.UnmarshalWithOptions(text, into, yaml.UseOrderedMap()); err != nil {
			t.Fatal(err)
		}
	}
	s := structure{t: t, defs: at(t, root, "$defs")}
	name := at(t, s.defs, "Metadata", "properties", "name")
	return yaml.MapSlice{
		{Key: "type", Value: "object"},
		{Key: "description", Value: get(root, "description")},
		{Key: "required", Value: []any{"spec"}},
		{Key: "properties", Value: yaml.MapSlice{
			{Key: "apiVersion", Value: yaml.MapSlice{{Key: "type", Value: "string"}}},
			{Key: "kind", Value: yaml.MapSlice{{Key: "type", Value: "string"}}},
			{Key: "metadata", Value: yaml.MapSlice{
				{Key: "type", Value: "object"},
				{Key: "properties", Value: yaml.MapSlice{{Key: "name", Value: yaml.MapSlice{
					{Key: "type", Value: "string"}, {Key: "maxLength", Value: 63}, {Key: "pattern", Value: get(name, "pattern")},
				}}}},
			}},
			{Key: "spec", Value: s.convert(at(t, s.defs, "Spec"))},
			{Key: "status", Value: extra},
		}},
	}
}

// A structure makes a schema structural.
type structure struct {
	t    *testing.T
	defs yaml.MapSlice
}

func (s structure) convert(in yaml.MapSlice) yaml.MapSlice {
	s.t.Helper()
	in, name := s.resolve(in)
	out := yaml.MapSlice{{Key: "description", Value: describe(in)}}
	if out[0].Value == "" {
		out = nil
	}
	for _, item := range in {
		out = append(out, s.keyword(item.Key.(string), item.Value)...)
	}
	if get(out, "type") == nil && get(out, "x-kubernetes-int-or-string") == nil {
		out = append(yaml.MapSlice{{Key: "type", Value: "string"}}, out...) // of enum and const
	}
	return append(out, elsewhere[name]...)
}

// resolve follows a reference; what stands beside it wins.
func (s structure) resolve(in yaml.MapSlice) (yaml.MapSlice, string) {
	s.t.Helper()
	ref, ok := get(in, "$ref").(string)
	if !ok {
		return in, ""
	}
	name := strings.TrimPrefix(ref, "#/$defs/")
	out := slices.Clone(in)
	for _, item := range at(s.t, s.defs, name) {
		if get(out, item.Key.(string)) == nil {
			out = append(out, item)
		}
	}
	return slices.DeleteFunc(out, func(i yaml.MapItem) bool { return i.Key == "$ref" }), name
}

// keyword turns one keyword into what structural schemas have for it.
func (s structure) keyword(key string, value any) yaml.MapSlice {
	s.t.Helper()
	same := yaml.MapSlice{{Key: key, Value: value}}
	switch key {
	case "title", "description", "default", "examples":
		return nil // told in describe
	case "propertyNames":
		return nil // not to be had; the nodes check
	case "type":
		if _, several := value.([]any); several {
			return yaml.MapSlice{
				{Key: "x-kubernetes-int-or-string", Value: true},
				{Key: "anyOf", Value: []any{yaml.MapSlice{{Key: "type", Value: "integer"}}, yaml.MapSlice{{Key: "type", Value: "string"}}}},
			}
		}
		return same
	case "const":
		return yaml.MapSlice{{Key: "enum", Value: []any{value}}}
	case "uniqueItems":
		return yaml.MapSlice{{Key: "x-kubernetes-list-type", Value: "set"}}
	case "items":
		return yaml.MapSlice{{Key: key, Value: s.convert(value.(yaml.MapSlice))}}
	case "additionalProperties":
		if value == false {
			return nil // what is unknown to a structural schema is refused or pruned
		}
		return yaml.MapSlice{{Key: key, Value: s.convert(value.(yaml.MapSlice))}}
	case "properties":
		var all yaml.MapSlice
		for _, p := range value.(yaml.MapSlice) {
			all = append(all, yaml.MapItem{Key: p.Key, Value: s.convert(p.Value.(yaml.MapSlice))})
		}
		return yaml.MapSlice{{Key: key, Value: all}}
	case "required", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum",
		"minItems", "maxItems", "minProperties", "maxProperties", "oneOf", "not":
		return same
	}
	s.t.Fatalf("the manifest's schema has the keyword %s: say here what becomes of it in a cluster", key)
	return nil
}

// describe is what kubectl explain shows: the description, and the default,
// which is not written into resources, so that what was applied stays as it is.
func describe(in yaml.MapSlice) string {
	text, _ := get(in, "description").(string)
	if value := get(in, "default"); value != nil {
		if list, ok := value.([]any); ok && len(list) == 1 {
			value = list[0]
		}
		text = strings.TrimSpace(fmt.Sprintf("%s Default: %v.", text, value))
	}
	return text
}

// get returns the value of key, or nil.
func get(m yaml.MapSlice, key string) any {
	for _, item := range m {
		if item.Key == key {
			return item.Value
		}
	}
	return nil
}

// at returns the map at the end of a way of keys.
func at(t *testing.T, m yaml.MapSlice, way ...string) yaml.MapSlice {
	t.Helper()
	for _, key := range way {
		next, ok := get(m, key).(yaml.MapSlice)
		if !ok {
			t.Fatalf("the schema has nothing at %v", way)
		}
		m = next
	}
	return m
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	text, err := yaml.MarshalWithOptions(v, yaml.IndentSequence(false))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func indent(text []byte, by int) string {
	var b strings.Builder
	for line := range bytes.Lines(text) {
		b.WriteString(strings.Repeat(" ", by) + string(line))
	}
	return b.String()
}
