package functions

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// A slip is one thing wrong with an expression.
type slip struct {
	at      int // characters before it
	line    int // from 1
	column  int // from 1; 0 if the expression as a whole is meant
	message string
	hint    string
}

// slips is the error of an expression that cannot be compiled.
type slips []slip

func (s slips) Error() string {
	texts := make([]string, len(s))
	for i, one := range s {
		texts[i] = one.String()
	}
	return strings.Join(texts, "; ")
}

func (s slip) String() string {
	switch {
	case s.column == 0:
		return s.message
	case s.line > 1:
		return fmt.Sprintf("line %d, column %d: %s", s.line, s.column, s.message)
	}
	return fmt.Sprintf("column %d: %s", s.column, s.message)
}

// slipsOf turns an error of the expression's parser or type checker into ours.
func slipsOf(err error) slips {
	message, _, _ := strings.Cut(err.Error(), "\n")
	s := slip{message: message}
	if e, ok := errors.AsType[*file.Error](err); ok {
		s.message, _, _ = strings.Cut(e.Message, "\n")
		s.at, s.line, s.column = e.From, e.Line, e.Column+1
	}
	return slips{s}
}

// builtins are the functions that expressions may call. Each takes a time that
// grows no faster than its arguments, and none asks for anything but those.
func builtins() []string {
	return []string{
		"abs", "ceil", "first", "float", "floor", "hasPrefix", "hasSuffix", "indexOf", "int", "last",
		"len", "lower", "max", "min", "round", "split", "string", "trim", "type", "upper",
	}
}

// maxPattern is the most instructions that the pattern of a matches may
// compile to: matching takes that many steps for each letter.
const maxPattern = 1000

// An inspector looks for what an expression may not hold, and says it better
// than the type checker could.
type inspector struct {
	source string
	known  []string // names of variables
	used   map[string]bool
	slips  slips
}

func inspect(source string, tree ast.Node, captures []string) *inspector {
	in := &inspector{source: source, known: sortedKeys(variables(captures)), used: map[string]bool{}}
	ast.Walk(&tree, in)
	slices.SortFunc(in.slips, func(a, b slip) int { return a.at - b.at })
	return in
}

// refuse tells what is wrong at n.
func (in *inspector) refuse(n ast.Node, hint, format string, args ...any) {
	at := n.Location().From
	before := string([]rune(in.source)[:at])
	in.slips = append(in.slips, slip{
		at:      at,
		line:    1 + strings.Count(before, "\n"),
		column:  1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]),
		message: fmt.Sprintf(format, args...),
		hint:    hint,
	})
}

// Visit is called for every node, those below first.
func (in *inspector) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		in.name(n)
	case *ast.IntegerNode:
		in.integer(n)
	case *ast.MemberNode:
		in.member(n)
	case *ast.BuiltinNode:
		in.call(n, n.Name, len(n.Arguments))
	case *ast.CallNode:
		in.call(n, n.Callee.String(), len(n.Arguments))
	case *ast.BinaryNode:
		in.operator(n)
	case *ast.VariableDeclaratorNode, *ast.SequenceNode:
		in.refuse(n, "", "an expression is one value, without let and ;")
	}
}

func (in *inspector) name(n *ast.IdentifierNode) {
	if slices.Contains(in.known, n.Value) {
		in.used[n.Value] = true
		return
	}
	hint := fmt.Sprintf("the names here are %s; a field of the payload is written payload.%.40s", sentence(in.known, "and"), n.Value)
	if near := nearest(n.Value, in.known); near != "" {
		hint = "did you mean " + near + "?"
	}
	in.refuse(n, hint, "there is no %.40q", n.Value)
}

// integer refuses what a 32-bit board could not read, on any machine.
func (in *inspector) integer(n *ast.IntegerNode) {
	if int64(n.Value) > math.MaxInt32 || int64(n.Value) < math.MinInt32 {
		in.refuse(n, fmt.Sprintf("write %d.0", n.Value), "%d is too large for a whole number", n.Value)
	}
}

// member checks the fields of event, which are known.
func (in *inspector) member(n *ast.MemberNode) {
	field, ok := n.Property.(*ast.StringNode)
	if !ok {
		return
	}
	var known []string
	switch n.Node.String() {
	case "event":
		known = fieldTags(reflect.TypeFor[eventVars]())
	case "event.time":
		known = fieldTags(reflect.TypeFor[timeVars]())
	default:
		return
	}
	if !slices.Contains(known, field.Value) {
		in.refuse(n.Property, didYouMean(field.Value, known), "%s has no field %q", n.Node, field.Value)
	}
}

func (in *inspector) call(n ast.Node, name string, arguments int) {
	switch {
	case name == "now" || name == "date":
		in.refuse(n, "use event.time, which is the same when an event is replayed", "%s is not available", name)
	case !slices.Contains(builtins(), name):
		in.refuse(n, "what expressions cannot do, the function's code can", "the function %.40s is not available", name)
	case name == "trim" && arguments > 1:
		in.refuse(n, "", "trim takes one text and removes the space around it")
	}
}

func (in *inspector) operator(n *ast.BinaryNode) {
	switch n.Operator {
	case "..":
		in.refuse(n, "compare with >= and <= instead", "ranges are not available")
	case "matches":
		in.pattern(n)
	}
}

func (in *inspector) pattern(n *ast.BinaryNode) {
	text, ok := n.Right.(*ast.StringNode)
	if !ok {
		in.refuse(n.Right, "", "matches needs its pattern as a text in quotes")
		return
	}
	re, err := syntax.Parse(text.Value, syntax.Perl)
	if err != nil {
		in.refuse(n.Right, "", "%v", err)
		return
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil || len(prog.Inst) > maxPattern {
		in.refuse(n.Right, "", "the pattern is too complex")
	}
}
