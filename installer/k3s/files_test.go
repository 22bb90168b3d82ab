package k3s

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/goccy/go-yaml"

	"github.com/sedge-iot/sedge/arm"
	"github.com/sedge-iot/sedge/functions"
)

var update = flag.Bool("update", false, "write the files that are made anew")

// checkFile wants the file to be want, or writes it.
func checkFile(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it is made of: go test ./installer/k3s -update", name)
	}
}

// render renders the chart as helm does, as far as its templates go: values, and
// quote.
func render(t *testing.T, values []byte) []byte {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal(values, &v); err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(os.DirFS("chart/templates"), "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("the chart's templates are %v, %v", names, err)
	}
	out := bytes.NewBufferString("# sedge on k3s: kubectl apply -f sedge.yaml, or drop it into\n" +
		"# /var/lib/rancher/k3s/server/manifests. Made of the chart: do not edit.\n")
	for _, name := range names {
		text, err := os.ReadFile(path.Join("chart/templates", name))
		if err != nil {
			t.Fatal(err)
		}
		tmpl := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"quote": func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) }})
		out.WriteString("---\n")
		if err := template.Must(tmpl.Parse(string(text))).Execute(out, map[string]any{"Values": v}); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestTheManifestIsTheChart(t *testing.T) {
	values, err := os.ReadFile("chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, "sedge.yaml", render(t, values))
}

func TestEveryValueOfTheChartCounts(t *testing.T) {
	values, err := os.ReadFile("chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(values, &tree); err != nil {
		t.Fatal(err)
	}
	plain := render(t, values)
	for _, leaf := range leaves(tree) {
		old := leaf.in[leaf.key]
		leaf.in[leaf.key] = "another-7"
		changed, err := yaml.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(render(t, changed), plain) {
			t.Errorf("the value %s changes nothing", leaf.name)
		}
		leaf.in[leaf.key] = old
	}
}

func TestTheChartNamesTheImageThatIsBuilt(t *testing.T) {
	var values struct{ Image string }
	text, err := Files.ReadFile("chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &values); err != nil || values.Image != arm.AgentImage {
		t.Errorf("the image is %q, %v, want %q", values.Image, err, arm.AgentImage)
	}
}

type leaf struct {
	name, key string
	in        map[string]any
}

func leaves(tree map[string]any) (all []leaf) {
	for key, value := range tree {
		if below, ok := value.(map[string]any); ok {
			for _, l := range leaves(below) {
				l.name = key + "." + l.name
				all = append(all, l)
			}
			continue
		}
		all = append(all, leaf{key, key, tree})
	}
	return all
}

func TestTheHelmChartHoldsTheWholeChart(t *testing.T) {
	text, err := HelmChart()
	if err != nil {
		t.Fatal(err)
	}
	again, err := HelmChart()
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("a second time it is another one, %v", err)
	}
	var resource struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Spec       struct {
			ChartContent string `yaml:"chartContent"`
		}
	}
	if err := yaml.Unmarshal(text, &resource); err != nil {
		t.Fatal(err)
	}
	if resource.APIVersion != "helm.cattle.io/v1" || resource.Kind != "HelmChart" {
		t.Errorf("it is a %s of %s", resource.Kind, resource.APIVersion)
	}
	packed, err := base64.StdEncoding.DecodeString(resource.Spec.ChartContent)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	err = fs.WalkDir(os.DirFS("chart"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path.Join("chart", name))
		want["sedge/"+name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := unpack(t, packed)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is not as in the folder", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("it holds %d files, the folder %d", len(got), len(want))
	}
}

func unpack(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files, all := tar.NewReader(plain), map[string]string{}
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(text)
	}
}

// documents splits a file of manifests.
func documents(t *testing.T, text []byte) (all []map[string]any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, doc)
	}
}

func TestTheSamplesFunctionIsValid(t *testing.T) {
	text, err := Files.ReadFile("sample.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := documents(t, text)
	i := slices.IndexFunc(docs, func(doc map[string]any) bool { return doc["kind"] == "Function" })
	if i < 0 {
		t.Fatal("the sample has no function")
	}
	one, err := yaml.Marshal(docs[i])
	if err != nil {
		t.Fatal(err)
	}
	m, err := functions.Parse("sample.yaml", one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := functions.New(m, ""); err != nil {
		t.Error(err)
	}
}

// TestTheAgentMayDoWhatItDoes compares the rights that the manifests give with a
// list for people to read: whoever adds one has to add it here, too.
func TestTheAgentMayDoWhatItDoes(t *testing.T) {
	text, err := Files.ReadFile("sedge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, doc := range documents(t, text) {
		rules, _ := doc["rules"].([]any)
		where := "cluster"
		if space, ok := doc["metadata"].(map[string]any)["namespace"].(string); ok {
			where = space
		}
		for _, r := range rules {
			r := r.(map[string]any)
			got = append(got, fmt.Sprintf("%s: %v %v %v", where, r["apiGroups"], r["resources"], r["verbs"]))
		}
	}
	want := []string{
		"cluster: [sedge.dev] [functions] [get list watch]",
		"cluster: [sedge.dev] [functions/status] [patch]",
		"cluster: [] [nodes] [get]",
		"sedge: [] [pods] [get list watch create patch delete]",
		"sedge: [] [pods/log] [get]",
		"sedge: [] [events] [get list watch]",
		"sedge: [] [configmaps] [get list create patch delete]",
		"sedge: [networking.k8s.io] [networkpolicies] [get list]",
		"sedge-system: [coordination.k8s.io] [leases] [get list create update]",
		"default: [] [events] [create]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the agent may\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
