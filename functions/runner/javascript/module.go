package javascript

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/grafana/sobek"
	"github.com/grafana/sobek/ast"
	"github.com/grafana/sobek/file"
	"github.com/grafana/sobek/parser"
	"github.com/grafana/sobek/token"
	"github.com/grafana/sobek/unistring"

	"github.com/sedge-iot/sedge/functions"
)

// A module is code compiled to a function that runs it and returns what it exports
// as its handler.
type module struct {
	program  *sobek.Program
	async    bool // it awaits outside of functions, so the function returns a promise
	commonJS bool // the function takes (module, exports)
}

// plainly keeps the parser from opening the files that source map comments name.
var plainly = parser.WithDisableSourceMaps

const bundleHint = "a function is one file: sedge deploy bundles what it imports"

// compile readies code. The body of a module becomes the body of a function:
// that costs half of what the engine's own modules do, and keeps every line
// and column where it was.
func compile(name, code string) (module, error) {
	tree, err := parser.ParseFile(nil, name, code, 0, plainly, parser.IsModule)
	if err == nil && (len(tree.ImportEntries) > 0 || len(tree.ExportEntries) > 0) {
		return compileModule(tree)
	}
	script, scriptErr := parser.ParseFile(nil, name, code, 0, plainly)
	if scriptErr != nil {
		if err == nil {
			err = scriptErr
		}
		if !looksLikeModule.MatchString(code) {
			err = scriptErr
		}
		return module{}, syntaxError(err, code)
	}
	return compileScript(script, code)
}

var looksLikeModule = regexp.MustCompile(`(?m)(^|[;}])\s*(import|export)\b`)

// compileModule makes a function of an ES module.
func compileModule(tree *ast.Program) (module, error) {
	if len(tree.ImportEntries) > 0 {
		i := tree.ImportEntries[0]
		return module{}, loadFailure(tree.File, i.Idx, "import of another module; "+bundleHint)
	}
	var handler unistring.String
	body := make([]ast.Statement, 0, len(tree.Body)+1)
	for _, st := range tree.Body {
		e, ok := st.(*ast.ExportDeclaration)
		if !ok {
			body = append(body, st)
			continue
		}
		if e.FromClause != nil && e.FromClause.ModuleSpecifier != "" || e.ExportFromClause != nil {
			return module{}, loadFailure(tree.File, e.Idx, "export from another module; "+bundleHint)
		}
		inner, local := declaration(e)
		if inner != nil {
			body = append(body, inner)
		}
		if local != "" && (handler == "" || e.IsDefault || exportsDefault(e)) {
			handler = local
		}
	}
	if handler == "" {
		return module{}, &functions.Failure{Code: functions.CodeLoad, Message: "nothing is exported as the handler: write `export default function (event, sedge) { … }`"}
	}
	return assemble(tree, body, identifier(handler), true, nil)
}

// declaration returns what an export declares, or nil, and the name of the
// handler in it, or "".
func declaration(e *ast.ExportDeclaration) (st ast.Statement, handler unistring.String) {
	switch {
	case e.HoistableDeclaration != nil:
		f := e.HoistableDeclaration.FunctionDeclaration
		return f, handlerName(e.IsDefault, f.Function.Name.Name)
	case e.ClassDeclaration != nil:
		if c := e.ClassDeclaration.Class; c.Name == nil {
			c.Name = identifier("default")
		}
		return e.ClassDeclaration, handlerName(e.IsDefault, e.ClassDeclaration.Class.Name.Name)
	case e.AssignExpression != nil:
		at := e.AssignExpression.Idx0()
		return &ast.LexicalDeclaration{Idx: at, Token: token.CONST, List: []*ast.Binding{{
			Target:      &ast.Identifier{Name: "default", Idx: at},
			Initializer: e.AssignExpression,
		}}}, "default"
	case e.LexicalDeclaration != nil:
		return e.LexicalDeclaration, bound(e.LexicalDeclaration.List)
	case e.Variable != nil:
		return e.Variable, bound(e.Variable.List)
	case e.NamedExports != nil:
		return nil, exported(e.NamedExports)
	}
	return nil, ""
}

func handlerName(isDefault bool, name unistring.String) unistring.String {
	if isDefault || name == "handle" {
		return name
	}
	return ""
}

func bound(list []*ast.Binding) unistring.String {
	for _, b := range list {
		if id, ok := b.Target.(*ast.Identifier); ok && id.Name == "handle" {
			return id.Name
		}
	}
	return ""
}

// exported returns the local name of what is exported as default or, failing
// that, as handle.
func exported(e *ast.NamedExports) (local unistring.String) {
	for _, s := range e.ExportsList {
		name := s.Alias
		if name == "" {
			name = s.IdentifierName
		}
		if name == "default" || name == "handle" && local == "" {
			local = s.IdentifierName
		}
	}
	return local
}

func exportsDefault(e *ast.ExportDeclaration) bool {
	if e.NamedExports == nil {
		return false
	}
	for _, s := range e.NamedExports.ExportsList {
		if s.Alias == "default" {
			return true
		}
	}
	return false
}

// compileScript makes a function of a CommonJS module or a plain script.
func compileScript(tree *ast.Program, code string) (module, error) {
	if usesExports.MatchString(code) {
		result := &ast.DotExpression{Left: identifier("module"), Identifier: *identifier("exports")}
		return assemble(tree, tree.Body, result, false, []string{"module", "exports"})
	}
	for _, st := range tree.Body {
		var name unistring.String
		switch st := st.(type) {
		case *ast.FunctionDeclaration:
			name = handlerName(false, st.Function.Name.Name)
		case *ast.LexicalDeclaration:
			name = bound(st.List)
		case *ast.VariableStatement:
			name = bound(st.List)
		}
		if name != "" {
			return assemble(tree, tree.Body, identifier(name), false, nil)
		}
	}
	return module{}, &functions.Failure{Code: functions.CodeLoad, Message: "there is no handler: write `export default function (event, sedge) { … }`"}
}

var usesExports = regexp.MustCompile(`\bexports\b`)

// assemble compiles a function with the given body that returns result.
func assemble(tree *ast.Program, body []ast.Statement, result ast.Expression, strict bool, params []string) (module, error) {
	base := file.Idx(tree.File.Base())
	end := base + file.Idx(len(tree.File.Source()))
	wrapper := &ast.FunctionLiteral{
		Function:        base,
		Name:            nil,
		ParameterList:   &ast.ParameterList{Opening: base, Closing: base},
		Body:            &ast.BlockStatement{LeftBrace: base, RightBrace: end, List: append(body[:len(body):len(body)], &ast.ReturnStatement{Return: end, Argument: result})},
		DeclarationList: tree.DeclarationList,
		Async:           tree.HasTLA,
	}
	for _, p := range params {
		wrapper.ParameterList.List = append(wrapper.ParameterList.List, &ast.Binding{Target: identifier(unistring.String(p))})
	}
	p, err := sobek.CompileAST(&ast.Program{
		Body: []ast.Statement{&ast.ExpressionStatement{Expression: wrapper}},
		File: tree.File,
	}, strict)
	if err != nil {
		return module{}, syntaxError(err, tree.File.Source())
	}
	return module{program: p, async: tree.HasTLA, commonJS: len(params) > 0}, nil
}

func identifier(name unistring.String) *ast.Identifier { return &ast.Identifier{Name: name, Idx: 1} }

// asyncIteration finds what this engine does not know.
var asyncIteration = regexp.MustCompile(`\bfor\s+await\b|\basync\s*(function\b\s*)?\*`)

// syntaxError tells where in code the first fault is.
func syntaxError(err error, code string) *functions.Failure {
	message, line := err.Error(), 0
	if list, ok := errors.AsType[parser.ErrorList](err); ok && len(list) > 0 {
		e := list[0]
		message, line = fmt.Sprintf("%s:%d:%d: %s", e.Position.Filename, e.Position.Line, e.Position.Column, e.Message), e.Position.Line
	}
	if e, ok := errors.AsType[*sobek.CompilerSyntaxError](err); ok && e.File != nil {
		p := e.File.Position(e.Offset)
		message, line = fmt.Sprintf("%s:%d:%d: %s", p.Filename, p.Line, p.Column, e.Message), p.Line
	}
	if lines := strings.Split(code, "\n"); line > 0 && line <= len(lines) && asyncIteration.MatchString(lines[line-1]) {
		message += "; for await and async generators are rewritten by sedge deploy, this code was not"
	}
	return &functions.Failure{Code: functions.CodeLoad, Message: strings.TrimPrefix(message, "SyntaxError: ")}
}

func loadFailure(f *file.File, at file.Idx, message string) *functions.Failure {
	p := f.Position(int(at) - f.Base())
	return &functions.Failure{Code: functions.CodeLoad, Message: fmt.Sprintf("%s:%d:%d: %s", p.Filename, p.Line, p.Column, message)}
}
