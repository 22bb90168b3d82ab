package functions

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRevisionStaysTheSame guards what is stored and sent: a manifest and code
// that were deployed by an older version must not become another revision. A
// new field keeps it, if leaving it out means that it is absent from the JSON.
func TestRevisionStaysTheSame(t *testing.T) {
	golden := map[string]Revision{
		"conditions.yaml": "6b3be98b895a846e996bfcf9db496a84afb4ae586e948ee13afd1aafcb032b21",
		"full.yaml":       "feb99b6cca68339a420229fff0a470528c261ec85038952c6e5472d977e09fcf",
		"minimal.yaml":    "f22a72e10378133c21449a0022b7773cad59e37d2b38282868527f307ae718d6",
	}
	for name, want := range golden {
		f, err := New(mustParse(t, string(goodManifests(t)[name])), "export default () => 1")
		if err != nil {
			t.Fatal(err)
		}
		if f.Revision != want {
			t.Errorf("revision of %s = %s, want %s", name, f.Revision, want)
		}
	}
}

func TestRevisionDependsOnWhatRunsAndNotOnHowItIsWritten(t *testing.T) {
	const code = "export default () => 1\n"
	revision := func(text string) Revision {
		m := mustParse(t, text)
		given := code
		if m.Spec.Source.Inline != "" {
			given = ""
		}
		f, err := New(m, given)
		if err != nil {
			t.Fatal(err)
		}
		return f.Revision
	}
	base := revision(manifest)
	same := map[string]string{
		"inline":       strings.Replace(manifest, "{path: index.js}", "{inline: \"export default () => 1\\n\"}", 1),
		"other path":   strings.Replace(manifest, "index.js", "lib/other.js", 1),
		"default":      manifest + "  resources: {timeout: 5s, memory: 33554432}\n",
		"other units":  manifest + "  scaling: {idle: 4m60s}\n",
		"null":         manifest + "  output:\n  env: ~\n",
		"other layout": strings.Replace(manifest, "metadata: {name: lamp}", "metadata:\n    name: 'lamp'", 1),
	}
	for name, text := range same {
		if got := revision(text); got != base {
			t.Errorf("%s: revision differs", name)
		}
	}
	other := map[string]string{
		"name":  strings.Replace(manifest, "lamp", "lamp2", 1),
		"topic": strings.Replace(manifest, "zigbee2mqtt", "z2m", 1),
		"limit": manifest + "  resources: {timeout: 6s}\n",
	}
	for name, text := range other {
		if got := revision(text); got == base {
			t.Errorf("%s: revision is the same", name)
		}
	}
}

func TestNewRefusesCodeThatCannotRun(t *testing.T) {
	m := mustParse(t, manifest)
	inline := mustParse(t, strings.Replace(manifest, "{path: index.js}", "{inline: a}", 1))
	for name, f := range map[string]Function{
		"empty":                      {Manifest: m},
		"huge":                       {Manifest: m, Code: strings.Repeat("x", MaxCode+1)},
		"not UTF-8":                  {Manifest: m, Code: "\xff"},
		"not what the manifest says": {Manifest: inline, Code: "b"},
	} {
		if _, err := New(f.Manifest, f.Code); err == nil {
			t.Errorf("New takes code that is %s", name)
		}
	}
}

func TestVerifyRefusesWhatWasChangedOnTheWay(t *testing.T) {
	f, err := New(mustParse(t, manifest), "export default 1")
	if err != nil {
		t.Fatal(err)
	}
	sent, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var got Function
	if err := json.Unmarshal(sent, &got); err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(); err != nil {
		t.Errorf("Verify = %v after JSON and back, want nil", err)
	}
	got.Code += " "
	if err := got.Verify(); err == nil {
		t.Error("Verify takes other code")
	}
	got = f
	got.Manifest.Spec.Env = map[string]string{"LD_PRELOAD": "x"}
	if err := got.Verify(); err == nil {
		t.Error("Verify takes a manifest that breaks the rules")
	}
}

func TestLoadReadsAFolderOrAFile(t *testing.T) {
	dir := folder(t, map[string]string{ManifestFile: manifest, "index.js": "export default 1"})
	for _, path := range []string{dir, filepath.Join(dir, ManifestFile)} {
		f, err := Load(path)
		if err != nil || f.Code != "export default 1" || f.Name() != "lamp" {
			t.Errorf("Load(%q) = %+v, %v", path, f, err)
		}
	}
}

func TestLoadStaysInItsFolder(t *testing.T) {
	outside := folder(t, map[string]string{"secret.js": "secret"})
	dir := folder(t, map[string]string{ManifestFile: manifest})
	if err := os.Symlink(filepath.Join(outside, "secret.js"), filepath.Join(dir, "index.js")); err != nil {
		t.Fatal(err)
	}
	if f, err := Load(dir); err == nil {
		t.Errorf("Load follows a link to %q", f.Code)
	}
}

func TestLoadRefusesWhatIsNoFileOrTooLarge(t *testing.T) {
	for name, dir := range map[string]string{
		"no manifest":       folder(t, nil),
		"no code":           folder(t, map[string]string{ManifestFile: manifest}),
		"huge code":         folder(t, map[string]string{ManifestFile: manifest, "index.js": strings.Repeat("x", MaxCode+1)}),
		"huge manifest":     folder(t, map[string]string{ManifestFile: manifest + strings.Repeat("#", MaxManifest), "index.js": "x"}),
		"code a folder":     folder(t, map[string]string{ManifestFile: manifest, "index.js/x": "x"}),
		"manifest a folder": folder(t, map[string]string{ManifestFile + "/x": "x"}),
	} {
		if _, err := Load(dir); err == nil {
			t.Errorf("Load takes %s", name)
		}
	}
}

// folder makes a folder with these files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
