package functions

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected faults in testdata")

// manifest is a small valid one, to be changed by a test.
const manifest = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: lamp}
spec:
  runtime: javascript
  source: {path: index.js}
  triggers:
  - mqtt: {topic: "zigbee2mqtt/{device}"}
`

func mustParse(t testing.TB, text string) Manifest {
	t.Helper()
	m, err := Parse("function.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestParseTellsEveryFault reads each testdata/bad/*.txt: a manifest, and what
// is to be said about it.
func TestParseTellsEveryFault(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil || len(files) < 25 {
		t.Fatalf("found %d bad manifests, err %v; want at least 25", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse("function.yaml", archive.Files[0].Data)
			if _, ok := errors.AsType[Faults](err); !ok {
				t.Fatalf("Parse = %v, want Faults", err)
			}
			got := err.Error() + "\n"
			if *update {
				archive.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(archive.Files[1].Data); got != want {
				t.Errorf("Parse says\n%swant\n%s", got, want)
			}
		})
	}
}

func goodManifests(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d good manifests, err %v", len(files), err)
	}
	good := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		good[filepath.Base(file)] = text
	}
	return good
}

func TestParsedManifestSurvivesJSONAndBack(t *testing.T) {
	for name, text := range goodManifests(t) {
		t.Run(name, func(t *testing.T) {
			m, err := Parse(name, text)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			var got Manifest
			if err := json.Unmarshal(sent, &got); err != nil {
				t.Fatal(err)
			}
			if err := Validate(got); err != nil {
				t.Errorf("Validate = %v, want nil for what Parse took", err)
			}
			if !reflect.DeepEqual(got, m) {
				t.Errorf("unmarshalled\n%+v\nwant\n%+v", got, m)
			}
			again, err := Parse(name, sent)
			if err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("parsed from JSON\n%+v, %v\nwant\n%+v", again, err, m)
			}
		})
	}
}

func TestParseRefusesWhatIsHuge(t *testing.T) {
	for name, text := range map[string]string{
		"text":   manifest + "#" + strings.Repeat("x", MaxManifest),
		"tokens": manifest + strings.Repeat("a: b\n", MaxManifest/5-100),
		"flow":   strings.Repeat("[", MaxManifest),
		"lists":  strings.Repeat("- ", MaxManifest/2),
		"keys":   strings.Repeat("? ", MaxManifest/2),
		"maps":   strings.Repeat("{a: ", MaxManifest/4),
		"latin":  "name: caf\xe9",
		"nul":    "name: a\x00b",
	} {
		_, err := Parse("function.yaml", []byte(text))
		if _, ok := errors.AsType[Faults](err); !ok {
			t.Errorf("%s: Parse = %v, want Faults", name, err)
		}
	}
}

func TestFaultOfAnExpressionPointsIntoIt(t *testing.T) {
	for _, line := range []string{
		`  - mqtt: {topic: a, when: payload.x == 1 && nobody}`,
		`  - mqtt: {topic: a, when: "payload.x == 1 && nobody"}`,
		`  - mqtt: {topic: a, when: 'payload.x == 1 && nobody'}`,
	} {
		_, err := Parse("", []byte(manifest+line))
		faults, _ := errors.AsType[Faults](err)
		if len(faults) != 1 {
			t.Fatalf("Parse = %v, want one fault", err)
		}
		got, want := faults[0].Column, strings.Index(line, "nobody")+1
		if got != want || faults[0].Line != 9 {
			t.Errorf("fault of %s at line %d, column %d, want 9 and %d", line, faults[0].Line, got, want)
		}
	}
}

func TestValidateSaysTheSameWithoutLines(t *testing.T) {
	m := mustParse(t, manifest)
	m.Metadata.Name = "La/mp"
	m.Spec.Env = map[string]string{"LD_PRELOAD": "x"}
	m.Spec.Source.Path = "../index.js"
	want := `metadata.name: "La/mp" is not a DNS label. Hint: use a to z, 0 to 9 and -, at most 63, with no - at either end
spec.source.path: "../index.js" leads out of the manifest's folder. Hint: name a file in the manifest's folder, such as index.js
spec.env.LD_PRELOAD: LD_PRELOAD belongs to the system. Hint: choose another name`
	if got := Validate(m).Error(); got != want {
		t.Errorf("Validate says\n%s\nwant\n%s", got, want)
	}
	if err := Validate(Manifest{}); err == nil {
		t.Error("Validate takes the zero Manifest")
	}
}

func TestValidateDoesNotChangeItsManifest(t *testing.T) {
	m := Manifest{Spec: Spec{Triggers: []Trigger{{MQTT: &MQTTTrigger{}}}, Output: &Output{}, Delivery: Delivery{Dedupe: &Dedupe{}}}}
	_ = Validate(m)
	if m.Spec.Triggers[0].MQTT.QoS != nil || m.Spec.Output.QoS != nil || m.Spec.Delivery.Dedupe.Window != 0 {
		t.Errorf("Validate filled in %+v", m.Spec)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range goodManifests(f) {
		f.Add(text)
	}
	files, _ := filepath.Glob("testdata/bad/*.txt")
	for _, file := range files {
		if archive, err := txtar.ParseFile(file); err == nil {
			f.Add(archive.Files[0].Data)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse("function.yaml", text)
		if err != nil {
			if faults, ok := errors.AsType[Faults](err); !ok || len(faults) == 0 {
				t.Fatalf("Parse = %v, want Faults", err)
			}
			return
		}
		code := "export default 1"
		m.Spec.Source.Inline, m.Spec.Source.Path = "", "index.js"
		if m.Spec.Runtime == RuntimeImage {
			code, m.Spec.Source.Path = "", ""
		}
		first, err := New(m, code)
		if err != nil {
			t.Fatalf("New = %v for a manifest that Parse took", err)
		}
		sent, err := json.Marshal(first.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("function.yaml", sent)
		if err != nil {
			t.Fatalf("Parse = %v for what it took before: %s", err, sent)
		}
		second, err := New(again, code)
		if err != nil || second.Revision != first.Revision {
			t.Errorf("revision %s, %v after a round trip, want %s", second.Revision, err, first.Revision)
		}
	})
}
