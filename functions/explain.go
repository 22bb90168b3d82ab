package functions

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// explain makes the error of an evaluation speak of the payload: it looks for
// a field that the failed operation needed and did not have.
func (x *Expression) explain(s Scope, err error) error {
	e, ok := errors.AsType[*file.Error](err)
	if !ok {
		return err
	}
	search := &search{at: e.From, scope: s}
	ast.Walk(&x.tree, search)
	if search.found != "" {
		return fmt.Errorf("%s: %s", brief(x.source), search.found)
	}
	message, _, _ := strings.Cut(e.Message, "\n")
	return fmt.Errorf("%s: column %d: %s", brief(x.source), e.Column+1, message)
}

// A search looks at the operation at a place for a field that is not there.
type search struct {
	at    int
	scope Scope
	found string
}

// Visit is called for every node, those below first.
func (q *search) Visit(node *ast.Node) {
	if (*node).Location().From != q.at || q.found != "" {
		return
	}
	fields := &fields{scope: q.scope}
	ast.Walk(node, fields)
	q.found = fields.missing
}

// fields looks for the first field below a node that is not there.
type fields struct {
	scope   Scope
	missing string
}

// Visit is called for every node, those below first.
func (f *fields) Visit(node *ast.Node) {
	if f.missing != "" {
		return
	}
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if n.Value == "previous" && f.scope.Previous == nil {
			f.missing = "there is no previous payload"
		}
	case *ast.MemberNode:
		if of, ok := valueOf(n.Node, f.scope); ok {
			f.missing = lacks(n, of)
		}
	}
}

// lacks says what n misses in the value that it is a field of, or "".
func lacks(n *ast.MemberNode, of any) string {
	field, ok := n.Property.(*ast.StringNode)
	if !ok {
		return ""
	}
	object, ok := of.(map[string]any)
	if !ok {
		return fmt.Sprintf("%s is %s and has no field %s", n.Node, describe(of), field.Value)
	}
	if v, ok := object[field.Value]; !ok {
		return fmt.Sprintf("%s is missing", n)
	} else if v == nil {
		return fmt.Sprintf("%s is null", n)
	}
	return ""
}

// valueOf returns the value of payload, previous or a field below them.
func valueOf(n ast.Node, s Scope) (any, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		switch n.Value {
		case "payload":
			return s.Payload, true
		case "previous":
			return s.Previous, true
		}
	case *ast.MemberNode:
		field, named := n.Property.(*ast.StringNode)
		of, ok := valueOf(n.Node, s)
		object, isObject := of.(map[string]any)
		if named && ok && isObject {
			return object[field.Value], true
		}
	}
	return nil, false
}

// describe says what kind of value v is.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case string:
		return fmt.Sprintf("the text %.40q", v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// describeType says what kind of values t has.
func describeType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct, reflect.Pointer:
		return "an object"
	}
	return "a number"
}
