package e2e

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// A house is the set of rules that the sources keep to.
type house struct {
	module string
	top    []string            // the folders at the root, besides dot-folders
	built  []string            // those at the root that make fills, in no one's charge
	floors [][]string          // every package, from the ground up
	homes  map[string][]string // import path of a dependency → the packages that may import it
	apart  map[string][]string // package → what it reaches neither directly nor through others
	lines  int                 // of one file; tests may be longer
}

var sedge = house{
	module: "github.com/sedge-iot/sedge",
	top:    []string{"cmd", "agent", "edge", "devices", "functions", "installer", "arm"},
	built:  []string{"bin", "dist"},
	floors: [][]string{
		{"devices", "edge/sqlite", "edge/kube", "edge/keys", "functions/pod/keeper", "functions/runner/walls", "arm", "cmd/settings"},
		{"functions", "devices/mqtt", "devices/mqtttest", "devices/broker", "devices/sim", "arm/image", "installer/k3s", "installer/upgrade"},
		{"installer/k3s/helmchart", "edge", "functions/runner", "functions/runner/javascript", "functions/sandboxtest"},
		{"agent/store", "edge/ledger", "edge/link", "edge/selector", "edge/rollout", "edge/client", "edge/cluster", "edge/ops", "cmd/service", "functions/process", "functions/pod"},
		{"agent", "edge/fleet", "edge/member", "edge/ledger/postgres"},
		{"edge/hub", "edge/ledger/ledgertest"},
		{"cmd/node"},
		{"cmd/sedge", "cmd/sedge-agent", "cmd/sedge-hub", "cmd/images"},
		{"cmd/e2e", "cmd/e2e/bench", "cmd/e2e/echoimage"},
	},
	homes: map[string][]string{
		"github.com/eclipse/paho.mqtt.golang":    {"devices/mqtt", "cmd/e2e/bench"},
		"github.com/mochi-mqtt/server/v2":        {"devices/broker"},
		"github.com/gorilla/websocket":           {"edge/link"},
		"modernc.org/sqlite":                     {"edge/sqlite"},
		"k8s.io":                                 {"edge/kube", "edge/selector"},
		"github.com/dop251/goja":                 {"functions/runner/javascript"},
		"github.com/grafana/sobek":               {"functions/runner/javascript"},
		"modernc.org/quickjs":                    {"functions/runner/javascript"},
		"aead.dev/minisign":                      {"edge/member", "installer/upgrade"},
		"github.com/spf13/cobra":                 {"cmd/sedge"},
		"github.com/google/go-containerregistry": {"arm/image", "cmd/images"},
	},
	apart: map[string][]string{
		"agent":           {"devices/mqtt", "devices/broker", "functions/runner", "functions/process", "functions/pod", "edge/kube", "k8s.io"},
		"devices":         {"net", "os"},
		"edge/member":     {"agent"},
		"functions":       {"net/http"},
		"cmd/sedge":       {"arm/image"},
		"cmd/sedge-agent": {"arm/image"},
	},
	lines: 400,
}

// TestTheHouseKeepsItsRules reads the sources itself: asking "go list" would
// hide them from the test cache, which would go on saying ok.
func TestTheHouseKeepsItsRules(t *testing.T) {
	src, err := survey(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range sedge.faults(src) {
		t.Error(fault)
	}
}

// sources is what the rules look at, read from a file system.
type sources struct {
	top        []string                   // folders at the root
	imports    map[string]map[string]bool // package → import paths, tests left out
	documented map[string]bool
	lines      map[string]int // file → lines, tests left out
}

// survey reads every Go file below root that belongs to the module.
func survey(root fs.FS) (sources, error) {
	src := sources{imports: map[string]map[string]bool{}, documented: map[string]bool{}, lines: map[string]int{}}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return src.enter(root, name)
		case path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		return src.read(root, name)
	})
	return src, err
}

// enter decides whether the folder is a part of the house.
func (src *sources) enter(root fs.FS, dir string) error {
	if dir == "." {
		return nil
	}
	_, err := fs.Stat(root, path.Join(dir, "go.mod"))
	if base := path.Base(dir); err == nil || base == "testdata" || strings.HasPrefix(base, ".") {
		return fs.SkipDir
	}
	if !strings.Contains(dir, "/") {
		src.top = append(src.top, dir)
	}
	return nil
}

func (src *sources) read(root fs.FS, name string) error {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	pkg := path.Dir(name)
	if src.imports[pkg] == nil {
		src.imports[pkg] = map[string]bool{}
	}
	for _, spec := range file.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		src.imports[pkg][imp] = true
	}
	src.documented[pkg] = src.documented[pkg] || file.Doc != nil
	src.lines[name] = bytes.Count(text, []byte("\n"))
	return nil
}

// faults returns every way in which src breaks the rules, sorted.
func (h house) faults(src sources) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }

	floor := map[string]int{}
	for i, pkgs := range h.floors {
		for _, pkg := range pkgs {
			floor[pkg] = i
			if src.imports[pkg] == nil {
				say("%s is on floor %d and has no sources", pkg, i)
			}
		}
	}
	for _, dir := range src.top {
		if !slices.Contains(h.top, dir) && !slices.Contains(h.built, dir) {
			say("%s: no such folder belongs at the top", dir)
		}
	}
	for pkg, imports := range src.imports {
		mine, ok := floor[pkg]
		if !ok {
			say("%s stands on no floor", pkg)
			continue
		}
		if !src.documented[pkg] {
			say("%s has no package comment", pkg)
		}
		for imp := range imports {
			theirs, listed := floor[h.local(imp)]
			if listed && theirs >= mine && !(theirs == mine && within(pkg, h.local(imp))) {
				say("%s on floor %d imports %s on floor %d", pkg, mine, h.local(imp), theirs)
			}
			for dep, homes := range h.homes {
				if within(imp, dep) && !slices.Contains(homes, pkg) {
					say("%s imports %s, whose home is %s", pkg, imp, strings.Join(homes, ", "))
				}
			}
		}
	}
	for pkg, others := range h.apart {
		for _, way := range h.ways(src, pkg, others) {
			say("%s stays apart from what it reaches by %s", pkg, way)
		}
	}
	for file, n := range src.lines {
		if n > h.lines {
			say("%s has %d lines, more than %d", file, n, h.lines)
		}
	}
	slices.Sort(all)
	return all
}

// ways returns a path of imports from pkg to each of the others that it reaches.
func (h house) ways(src sources, pkg string, others []string) (found []string) {
	seen := map[string]bool{pkg: true}
	var walk func(pkg, way string)
	walk = func(pkg, way string) {
		for _, imp := range slices.Sorted(maps.Keys(src.imports[pkg])) {
			imp := h.local(imp)
			if seen[imp] {
				continue
			}
			seen[imp] = true
			way := way + " → " + imp
			if slices.ContainsFunc(others, func(o string) bool { return within(imp, o) }) {
				found = append(found, way)
			}
			walk(imp, way)
		}
	}
	walk(pkg, pkg)
	return found
}

// local turns the import path of one of our packages into its folder.
func (h house) local(imp string) string { return strings.TrimPrefix(imp, h.module+"/") }

// within reports whether the import path or folder p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func TestABrokenRuleIsSeen(t *testing.T) {
	rules := house{
		module: "x.test/y",
		top:    []string{"low", "high"},
		floors: [][]string{{"low", "low/side"}, {"high", "high/child"}},
		homes:  map[string][]string{"dep.test/d": {"low/side"}},
		apart:  map[string][]string{"high": {"low/side"}},
		lines:  4,
	}
	sound := map[string]string{
		"low/low.go":           "// Package low is documented.\npackage low\n",
		"low/low_test.go":      "package low\n\nimport _ \"x.test/y/high\"\n\n\n// A test may look up and be long.\n",
		"low/side/side.go":     "// Package side is documented.\npackage side\nimport _ \"dep.test/d/part\"\n",
		"high/high.go":         "// Package high is documented.\npackage high\nimport _ \"x.test/y/low\"\n",
		"high/child/child.go":  "// Package child is documented.\npackage child\nimport _ \"x.test/y/high\"\n",
		"high/testdata/bad.go": "not Go",
		"other/go.mod":         "module elsewhere\n",
		"other/other.go":       "package other\n",
		".dot/dot.go":          "package dot\n",
	}
	for _, c := range []struct{ name, file, text, want string }{
		{"nothing", "", "", ""},
		{"an import of a higher floor", "low/up.go", "package low\nimport _ \"x.test/y/high\"\n", "low on floor 0 imports high on floor 1"},
		{"an import of a neighbour", "low/next.go", "package low\nimport _ \"x.test/y/low/side\"\n", "low on floor 0 imports low/side on floor 0"},
		{"a package on no floor", "high/new/new.go", "// Package new.\npackage new\n", "high/new stands on no floor"},
		{"a package without a comment", "high/high.go", "package high\n", "high has no package comment"},
		{"a package that is gone", "high/child/child.go", "", "high/child is on floor 1 and has no sources"},
		{"a folder more at the top", "util/util.go", "// Package util.\npackage util\n", "util: no such folder belongs at the top"},
		{"a dependency away from home", "high/dep.go", "package high\nimport _ \"dep.test/d\"\n", "high imports dep.test/d, whose home is low/side"},
		{"a forbidden import through another", "low/way.go", "package low\nimport _ \"x.test/y/low/side\"\n", "high stays apart from what it reaches by high → low → low/side"},
		{"a file that is too long", "high/long.go", "package high\n\n\n\n\n", "high/long.go has 5 lines, more than 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range sound {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if c.file != "" {
				files[c.file] = &fstest.MapFile{Data: []byte(c.text)}
			}
			if c.file != "" && c.text == "" {
				delete(files, c.file)
			}
			src, err := survey(files)
			if err != nil {
				t.Fatal(err)
			}
			got := rules.faults(src)
			if c.want == "" && len(got) > 0 || c.want != "" && !slices.Contains(got, c.want) {
				t.Errorf("faults = %q, want %q among them", got, c.want)
			}
		})
	}
}
