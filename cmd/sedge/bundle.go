package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/sedge-iot/sedge/functions"
)

// imports finds what a module takes in; one import too many found, in a comment
// say, costs only a bundling.
var imports = regexp.MustCompile(`(?m)(^|[;\s}])(import|export)\b[^;\n]*\bfrom\b|(^|[;\s])import\s*["'({]|\bimport\s*\(|\brequire\s*\(`)

// asyncIteration finds what the engine cannot read: for await, and async
// generators. One too many found costs only a bundling, here too.
var asyncIteration = regexp.MustCompile(`\bfor\s+await\b|\basync\s*(function\b\s*)?\*`)

// bundle makes one module of JavaScript of a function's code: TypeScript is
// translated, what the code imports is brought in, and asynchronous iteration is
// rewritten. Code that needs none of it stays as it is, to the letter.
func bundle(folder string, m functions.Manifest, code string) (string, error) {
	if m.Spec.Runtime != "javascript" {
		return code, nil
	}
	path := m.Spec.Source.Path
	typed := slices.Contains([]string{".ts", ".mts", ".tsx"}, filepath.Ext(path))
	if !typed && !imports.MatchString(code) && !asyncIteration.MatchString(code) {
		return code, nil
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	loader := api.LoaderJS
	if typed {
		loader = api.LoaderTS
	}
	if filepath.Ext(path) == ".tsx" {
		loader = api.LoaderTSX
	}
	name := path
	if name == "" {
		name = "inline.js"
	}
	built := api.Build(api.BuildOptions{
		Stdin:         &api.StdinOptions{Contents: code, Sourcefile: name, ResolveDir: filepath.Join(folder, filepath.Dir(path)), Loader: loader},
		AbsWorkingDir: folder,
		Bundle:        true,
		Format:        api.FormatESModule,
		Platform:      api.PlatformNeutral,
		MainFields:    []string{"module", "main"},
		Conditions:    []string{"import", "module"},
		Target:        api.ES2020,
		Supported:     map[string]bool{"for-await": false, "async-generator": false},
		Charset:       api.CharsetUTF8,
		LegalComments: api.LegalCommentsNone,
		LogLevel:      api.LogLevelSilent,
	})
	if len(built.Errors) > 0 {
		return "", bundleError(folder, built.Errors)
	}
	code = string(built.OutputFiles[0].Contents)
	if strings.Contains(code, "asyncIterator") {
		code = asyncIterator + code
	}
	return code, nil
}

// asyncIterator gives the engine the symbol that rewritten code looks for.
const asyncIterator = `Symbol.asyncIterator || (Symbol.asyncIterator = Symbol.for("Symbol.asyncIterator"));
`

// bundleError tells where the code is at fault, a line for each place.
func bundleError(folder string, messages []api.Message) error {
	var lines []string
	hint := ""
	for _, m := range messages {
		text := m.Text
		if m.Location != nil {
			text = fmt.Sprintf("%s:%d: %s", filepath.Join(folder, m.Location.File), m.Location.Line, text)
		}
		lines = append(lines, text)
		if strings.Contains(m.Text, "Could not resolve") {
			hint = "install what the code imports beside it, like: npm install --prefix " + folder
		}
	}
	return wrongUsage(hint, "%s", strings.Join(lines, "\n"))
}
