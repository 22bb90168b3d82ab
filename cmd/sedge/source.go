package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// sources reads the functions that the arguments of -f name: a manifest, a
// folder with one or more of them, or - for stdin. All that is wrong with all
// of them is reported at once.
func (sh *shell) sources(args []string) ([]functions.Function, error) {
	if len(args) == 0 {
		return nil, wrongUsage("like -f night-light, a folder with a function.yaml", "which function? -f FILE, DIR or - is missing")
	}
	var all []functions.Function
	var wrong []error
	for _, arg := range args {
		names := []string{arg}
		if arg != "-" {
			var err error
			if names, err = manifests(arg); err != nil {
				wrong = append(wrong, err)
			}
		}
		for _, name := range names {
			f, err := sh.source(name)
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			all = append(all, f)
		}
	}
	if err := faulty(wrong); err != nil {
		return nil, err
	}
	return all, twice(all)
}

// source reads one function and bundles its code if that needs it.
func (sh *shell) source(name string) (functions.Function, error) {
	if name == "-" {
		return sh.stdin()
	}
	m, code, err := functions.Read(name)
	if err != nil {
		return functions.Function{}, err
	}
	if code, err = bundle(filepath.Dir(name), m, code); err != nil {
		return functions.Function{}, err
	}
	f, err := functions.New(m, code)
	if _, known := errors.AsType[functions.Faults](err); err != nil && !known {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return f, err
}

func (sh *shell) stdin() (functions.Function, error) {
	data, err := io.ReadAll(io.LimitReader(sh.in, functions.MaxManifest+1))
	if err != nil {
		return functions.Function{}, fmt.Errorf("read stdin: %w", err)
	}
	m, err := functions.Parse("stdin", data)
	if err != nil {
		return functions.Function{}, err
	}
	if m.Spec.Source.Path != "" {
		return functions.Function{}, wrongUsage("put the code into source.inline, or deploy the folder", "stdin: source.path: there is no folder that it could be in")
	}
	code, err := bundle(".", m, m.Spec.Source.Inline)
	if err != nil {
		return functions.Function{}, err
	}
	return functions.New(m, code)
}

// manifests returns the manifest at path: path itself, the one in that folder,
// or all in the folders below it.
func manifests(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, wrongUsage("-f takes a manifest, a folder with one, or - for stdin", "%s", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	if name := filepath.Join(path, functions.ManifestFile); exists(name) {
		return []string{name}, nil
	}
	var all []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != path && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir
		case !d.IsDir() && d.Name() == functions.ManifestFile:
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, wrongUsage("sedge new NAME writes one", "%s: there is no %s in it", path, functions.ManifestFile)
	}
	return all, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// faulty joins errors about what the user wrote into one.
func faulty(wrong []error) error {
	if len(wrong) == 0 {
		return nil
	}
	all := &edge.Error{Code: edge.Invalid, Message: errors.Join(wrong...).Error()}
	for _, err := range wrong {
		if fs, ok := errors.AsType[functions.Faults](err); ok {
			all.Faults = append(all.Faults, fs...)
		}
		if e, ok := errors.AsType[*edge.Error](err); ok && all.Hint == "" {
			all.Hint = e.Hint
		}
	}
	if len(all.Faults) > 0 {
		all.Hint = "sedge schema prints what a manifest may hold"
	}
	return all
}

// twice refuses two functions of one name: which was meant?
func twice(all []functions.Function) error {
	seen := map[string]bool{}
	for _, f := range all {
		if seen[f.Name()] {
			return wrongUsage("give each function a name of its own", "two of the manifests are called %q", f.Name())
		}
		seen[f.Name()] = true
	}
	return nil
}
