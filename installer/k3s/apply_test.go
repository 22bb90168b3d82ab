//go:build cluster

package k3s

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
)

type object = map[string]any

// plurals are the kinds in our manifests; those with a capital belong to no
// namespace.
var plurals = map[string]string{
	"Namespace":                "Namespaces",
	"CustomResourceDefinition": "CustomResourceDefinitions",
	"ClusterRole":              "ClusterRoles",
	"ClusterRoleBinding":       "ClusterRoleBindings",
	"Function":                 "Functions",
	"ServiceAccount":           "serviceaccounts",
	"Role":                     "roles",
	"RoleBinding":              "rolebindings",
	"NetworkPolicy":            "networkpolicies",
	"ConfigMap":                "configmaps",
	"DaemonSet":                "daemonsets",
	"Deployment":               "deployments",
	"Service":                  "services",
	"HelmChart":                "helmcharts",
}

// objects returns where an object belongs.
func objects(t *testing.T, c *kube.Client, doc object) *kube.Objects[object] {
	t.Helper()
	name, _ := doc["kind"].(string)
	plural, ok := plurals[name]
	if !ok {
		t.Fatalf("there is a %q: say here where it belongs", name)
	}
	version, _ := doc["apiVersion"].(string)
	group, version, found := strings.Cut(version, "/")
	if !found {
		group, version = "", group
	}
	space, _ := doc["metadata"].(object)["namespace"].(string)
	if own := strings.ToLower(plural) != plural; own != (space == "") {
		t.Fatalf("%s %v: its namespace is %q", name, doc["metadata"].(object)["name"], space)
	}
	return kube.Kind[object]{Group: group, Version: version, Name: name, Plural: strings.ToLower(plural)}.In(c, space)
}

func client(t *testing.T) *kube.Client {
	t.Helper()
	c, err := kube.Open(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// apply has the API server check doc, or take it.
func apply(t *testing.T, c *kube.Client, doc object, dry bool) {
	t.Helper()
	if _, err := objects(t, c, doc).Try(t.Context(), &doc, dry); err != nil {
		t.Error(err)
	}
}

// await waits until the API server serves the resource that doc defines.
func await(t *testing.T, c *kube.Client, doc object) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	crds := kube.Kind[struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}]{Group: "apiextensions.k8s.io", Version: "v1", Name: "CustomResourceDefinition", Plural: "customresourcedefinitions"}.In(c, "")
	name := doc["metadata"].(object)["name"].(string)
	for {
		crd, err := crds.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		ready := false
		for _, c := range crd.Status.Conditions {
			switch {
			case c.Type == "NonStructuralSchema" && c.Status == "True":
				t.Fatalf("the schema of %s is not structural: %s", name, c.Message)
			case c.Type == "Established":
				ready = c.Status == "True"
			}
		}
		if ready {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not served: %+v", name, crd.Status)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestTheAPIServerTakesEveryManifest applies namespaces and definitions, and asks
// for the rest whether it would be taken.
func TestTheAPIServerTakesEveryManifest(t *testing.T) {
	c := client(t)
	helm, err := HelmChart()
	if err != nil {
		t.Fatal(err)
	}
	definition, err := os.ReadFile("testdata/helmcharts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{read(t, "sedge.yaml"), read(t, "sample.yaml"), definition, helm} {
		for _, doc := range documents(t, text) {
			switch doc["kind"] {
			case "Namespace":
				apply(t, c, doc, false)
			case "CustomResourceDefinition":
				apply(t, c, doc, false)
				await(t, c, doc)
			default:
				apply(t, c, doc, true)
			}
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTheAPIServerRefusesWhatIsWrong is about what needs no node to be seen.
func TestTheAPIServerRefusesWhatIsWrong(t *testing.T) {
	c := client(t)
	for _, doc := range documents(t, read(t, "sedge.yaml")) {
		if doc["kind"] == "CustomResourceDefinition" {
			apply(t, c, doc, false)
			await(t, c, doc)
		}
	}
	spec := func(change func(object)) object {
		s := object{
			"runtime": "javascript", "source": object{"inline": "export function handle() {}"},
			"triggers": []any{object{"mqtt": object{"topic": "a"}}},
		}
		change(s)
		return s
	}
	for name, c2 := range map[string]struct {
		change func(object)
		want   string
	}{
		"path":          {func(s object) { s["source"] = object{"path": "index.js"} }, "put the code into source.inline"},
		"unknown":       {func(s object) { s["timeout"] = "5s" }, ".spec.timeout: field not declared in schema"},
		"unknown-below": {func(s object) { s["resources"] = object{"hostPath": "/"} }, ".spec.resources.hostPath: field not declared in schema"},
		"type":          {func(s object) { s["resources"] = object{"concurrency": "four"} }, "expected numeric"},
		"runtime":       {func(s object) { s["runtime"] = "perl" }, "Unsupported value"},
		"no-source":     {func(s object) { s["source"] = object{} }, "at least 1 properties"},
		"no-triggers":   {func(s object) { s["triggers"] = []any{} }, "at least 1 items"},
		"two-kinds": {func(s object) {
			s["triggers"] = []any{object{"mqtt": object{"topic": "a"}, "http": object{"path": "/a"}}}
		}, "spec.triggers[0]: Too many"},
		"two-schedules":   {func(s object) { s["triggers"] = []any{object{"schedule": object{"cron": "@daily", "every": "1h"}}} }, "oneOf"},
		"duration":        {func(s object) { s["resources"] = object{"timeout": "soon"} }, "should match"},
		"secret-twice":    {func(s object) { s["secrets"] = []any{"a", "a"} }, "duplicate entries"},
		"name.with.dots":  {func(object) {}, "metadata.name"},
		"bytes-of-letter": {func(s object) { s["state"] = object{"maxBytes": "much"} }, "should match"},
	} {
		t.Run(name, func(t *testing.T) {
			doc := object{"apiVersion": "sedge.dev/v1", "kind": "Function", "metadata": object{"name": name}, "spec": spec(c2.change)}
			_, err := objects(t, c, doc).Try(t.Context(), &doc, true)
			if err == nil || !strings.Contains(err.Error(), c2.want) {
				t.Errorf("answer is %v, want %q in it", err, c2.want)
			}
		})
	}
	good := object{"apiVersion": "sedge.dev/v1", "kind": "Function", "metadata": object{"name": "good"}, "spec": spec(func(s object) { s["state"] = object{"maxBytes": 65536} })}
	apply(t, c, good, false)
	defer func() {
		if err := objects(t, c, good).Delete(t.Context(), "good", ""); err != nil {
			t.Error(err)
		}
	}()
	// By an update, too: with a merge patch that drops nothing of its own.
	patch := object{"spec": object{"source": object{"inline": nil, "path": "index.js"}}}
	if _, err := objects(t, c, good).Patch(t.Context(), "good", patch, ""); err == nil || !strings.Contains(err.Error(), "put the code into source.inline") {
		t.Errorf("an update to source.path: %v", err)
	}
}
