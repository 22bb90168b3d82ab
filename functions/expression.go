package functions

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// What an expression may cost. Without loops, and with texts of a bounded
// length, each of its nodes takes a bounded time.
const (
	MaxExpression        = 4 << 10  // bytes of source
	maxExpressionNodes   = 100      // operators, names and values
	MaxExpressionPayload = 64 << 10 // bytes of an event's payload into which expressions look
)

// An Expression is a compiled expression over an event: its payload, the
// payload before, and what the trigger's filter caught, by name. It reads no
// clock, so that it says the same again when an event is replayed. It may be
// used from several goroutines.
type Expression struct {
	source  string
	program *vm.Program
	tree    ast.Node
	names   []string // of the variables that it uses
	frames  sync.Pool
}

// A Condition is an [Expression] that is true or false.
type Condition struct{ *Expression }

// CompileExpression compiles an expression that may have any value. Captures
// are the names that the trigger's filter has.
func CompileExpression(source string, captures []string) (*Expression, error) {
	return compile(source, captures)
}

// CompileCondition compiles an expression that is true or false.
func CompileCondition(source string, captures []string) (*Condition, error) {
	x, err := compile(source, captures)
	if err != nil {
		return nil, err
	}
	switch t := x.program.Node().Type(); t.Kind() {
	case reflect.Bool, reflect.Interface: // what any value of the payload is
	default:
		return nil, slips{{message: "is " + describeType(t) + ", not true or false", hint: "compare it with something"}}
	}
	return &Condition{x}, nil
}

func compile(source string, captures []string) (*Expression, error) {
	switch {
	case strings.TrimSpace(source) == "":
		return nil, slips{{message: "is empty"}}
	case len(source) > MaxExpression:
		return nil, slips{{message: fmt.Sprintf("is longer than %d bytes", MaxExpression)}}
	case !utf8.ValidString(source):
		return nil, slips{{message: "is not UTF-8"}}
	}
	tree, err := parser.Parse(source)
	if err != nil {
		return nil, slipsOf(err)
	}
	in := inspect(source, tree.Node, captures)
	if len(in.slips) > 0 {
		return nil, in.slips
	}
	program, err := expr.Compile(source, expr.AsAny(), expr.Env(variables(captures)), expr.MaxNodes(maxExpressionNodes))
	if err != nil {
		return nil, slipsOf(err)
	}
	return &Expression{source: source, program: program, tree: tree.Node, names: sortedKeys(in.used)}, nil
}

// variables returns the names that an expression may use, with their types.
func variables(captures []string) types.Map {
	vars := types.Map{
		"event":    types.TypeOf(&eventVars{}),
		"payload":  types.Any,
		"previous": types.Any,
		"topic":    types.String,
	}
	for _, name := range captures {
		if _, taken := vars[name]; !taken {
			vars[name] = types.String
		}
	}
	return vars
}

// String returns the source.
func (x *Expression) String() string { return x.source }

// Uses reports whether the expression looks at the variable of that name, such
// as payload or previous. Who evaluates it may leave out what it does not use.
func (x *Expression) Uses(name string) bool {
	return slices.Contains(x.names, name)
}

// A frame is what one evaluation needs, kept for the next.
type frame struct {
	vm    vm.VM
	vars  map[string]any
	event eventVars
}

// Eval returns the expression's value. A field that the payload lacks is nil;
// the error of an operation that cannot do with nil names the field.
func (x *Expression) Eval(s Scope) (any, error) {
	if s.Event != nil && len(s.Event.Payload) > MaxExpressionPayload && x.Uses("payload") {
		return nil, fmt.Errorf("payload weighs %d bytes, expressions look into at most %d", len(s.Event.Payload), MaxExpressionPayload)
	}
	f, _ := x.frames.Get().(*frame)
	if f == nil {
		f = &frame{vars: make(map[string]any, len(x.names))}
	}
	for _, name := range x.names {
		f.vars[name] = s.variable(name, &f.event)
	}
	value, err := f.vm.Run(x.program, f.vars)
	clear(f.vars)
	x.frames.Put(f)
	if err != nil {
		return nil, x.explain(s, err)
	}
	return value, nil
}

// Key returns the expression's value as text, the same for the same value.
func (x *Expression) Key(s Scope) (string, error) {
	value, err := x.Eval(s)
	if err != nil {
		return "", err
	}
	switch v := value.(type) {
	case nil:
		return "", fmt.Errorf("%s has no value", brief(x.source))
	case string:
		return v, nil
	case int:
		return strconv.Itoa(v), nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("%s: %w", brief(x.source), err)
	}
	return string(text), nil
}

// Eval reports whether the condition holds. Nil counts as false; any other
// value that is not true or false is an error.
func (c *Condition) Eval(s Scope) (bool, error) {
	value, err := c.Expression.Eval(s)
	if err != nil {
		return false, err
	}
	b, ok := value.(bool)
	if !ok && value != nil {
		return false, fmt.Errorf("%s is %s, not true or false", brief(c.source), describe(value))
	}
	return b, nil
}

// brief quotes an expression for a message.
func brief(source string) string {
	const enough = 80
	if len(source) > enough {
		return strconv.Quote(source[:enough]) + "…"
	}
	return strconv.Quote(source)
}
