package functions

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// What a manifest's text may be made of. The parser takes time that grows with
// the square of the tokens and stack that grows with the depth; no manifest
// that obeys the other rules comes near.
const (
	maxTokens = 10_000
	maxDepth  = 32
)

// read returns the only document's root, or nil after telling why there is none.
func (d *document) read(text []byte) ast.Node {
	switch {
	case len(text) > MaxManifest:
		d.refuse(position{}, "weighs %d bytes, at most %d are read", len(text), MaxManifest)
		return nil
	case !utf8.Valid(text):
		d.refuse(position{}, "is not UTF-8")
		return nil
	case bytes.IndexByte(text, 0) >= 0:
		d.refuse(position{}, "holds a NUL")
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if !d.harmless(tokens) {
		return nil
	}
	file, err := parse(tokens)
	if err != nil {
		d.refuse(place(err), "%s", reason(err))
		return nil
	}
	return d.only(file)
}

// refuse tells that the text as a whole cannot be read.
func (d *document) refuse(p position, format string, args ...any) {
	d.fault(p, Fault{Rule: RuleSyntax, Message: fmt.Sprintf(format, args...)})
}

// harmless looks at the tokens before the parser does, and refuses what would
// cost it much and what manifests do without.
func (d *document) harmless(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		d.refuse(position{}, "has %d words and signs, at most %d are read", len(tokens), maxTokens)
		return false
	}
	depth, entries, line := 0, 0, 0
	for _, t := range tokens {
		p := positionOf(t)
		if p.line != line {
			line, entries = p.line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			d.refuse(p, "anchors and aliases are not read here")
			return false
		case token.TagType, token.DirectiveType:
			d.refuse(p, "tags and directives are not read here")
			return false
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if depth+entries > maxDepth {
			d.refuse(p, "is nested over %d deep", maxDepth)
			return false
		}
	}
	return true
}

// parse calls the parser, whose panics on broken input are errors here.
func parse(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be read as YAML: %v", r)
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are told with the other faults
}

// only returns the root of the one document that file holds.
func (d *document) only(file *ast.File) ast.Node {
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			d.refuse(positionOf(doc.Body.GetToken()), "a second document begins here, a manifest is one")
			return nil
		}
		root = doc.Body
	}
	if root == nil {
		d.refuse(position{line: 1, column: 1}, "is empty")
	}
	return root
}

// A syntaxError is what the parser returns.
type syntaxError interface {
	error
	GetMessage() string
	GetToken() *token.Token
}

func reason(err error) string {
	if s, ok := errors.AsType[syntaxError](err); ok {
		return s.GetMessage()
	}
	return err.Error()
}

func place(err error) position {
	if s, ok := errors.AsType[syntaxError](err); ok {
		return positionOf(s.GetToken())
	}
	return position{}
}

func positionOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{line: t.Position.Line, column: t.Position.Column, plain: t.Type == token.StringType}
}
