package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

type options struct {
	listen string
	hub    string
	wait   time.Duration
	quiet  bool
}

func flagsOf(o *options) *pflag.FlagSet {
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.StringVar(&o.listen, "http-listen", "here", "")
	f.StringVar(&o.hub, "hub", "there", "")
	f.DurationVar(&o.wait, "wait", time.Second, "")
	f.BoolVar(&o.quiet, "quiet", false, "")
	f.Bool("help", false, "")
	f.String("config", "", "")
	Rename(f, "hub", "SEDGE_HUB_URL")
	return f
}

func TestTheNearestSettingWins(t *testing.T) {
	var o options
	f := flagsOf(&o)
	if err := f.Parse([]string{"--http-listen", "flag"}); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{"SEDGE_HTTP_LISTEN": "environment", "SEDGE_HUB_URL": "environment", "SEDGE_QUIET": ""}
	if err := FromEnvironment(f, lookup(environment)); err != nil {
		t.Fatal(err)
	}
	if err := FromYAML(f, "file", []byte("http-listen: file\nhub: file\nwait: 5s\nquiet: true\n")); err != nil {
		t.Fatal(err)
	}
	want := options{listen: "flag", hub: "environment", wait: 5 * time.Second, quiet: true}
	if o != want {
		t.Errorf("settings are %+v, want %+v", o, want)
	}
}

func TestEveryValueThatDoesNotFitIsReported(t *testing.T) {
	var o options
	f := flagsOf(&o)
	err := FromEnvironment(f, lookup(map[string]string{"SEDGE_WAIT": "long", "SEDGE_QUIET": "perhaps", "SEDGE_HELP": "me"}))
	says(t, err, `SEDGE_WAIT: "long" does not fit`, `SEDGE_QUIET: "perhaps" does not fit`)
}

func TestAFileWithAFaultSetsNothing(t *testing.T) {
	for name, file := range map[string]struct {
		text string
		want []string
	}{
		"unknown key":  {"http-listen: file\nlisten: x\nhelp: true\nconfig: other\n", []string{`no setting "listen"`, `no setting "help"`, `no setting "config"`}},
		"bad values":   {"http-listen: [a, b]\nwait: long\nhub: {a: b}\nquiet:\n", []string{"http-listen: must be one value", `wait: "long" does not fit`, "hub: must be one value", "quiet: must be one value"}},
		"not YAML":     {"http-listen: \"\nwait", []string{"file: "}},
		"not a map":    {"- http-listen\n", []string{"file: "}},
		"given twice":  {"wait: 2s\nwait: 3s\n", []string{"file: "}},
		"numbers keys": {"1: 2\n", []string{`no setting "1"`}},
	} {
		t.Run(name, func(t *testing.T) {
			var o options
			f := flagsOf(&o)
			says(t, FromYAML(f, "file", []byte(file.text)), file.want...)
			if want := (options{listen: "here", hub: "there", wait: time.Second}); o != want {
				t.Errorf("settings are %+v, want the defaults", o)
			}
			if f.Changed("http-listen") || f.Changed("wait") {
				t.Error("a flag counts as given")
			}
		})
	}
}

func TestAnEmptyFileIsAFileOfDefaults(t *testing.T) {
	var o options
	for _, text := range []string{"", "\n", "# nothing\n"} {
		if err := FromYAML(flagsOf(&o), "file", []byte(text)); err != nil {
			t.Errorf("FromYAML(%q) = %v, want nil", text, err)
		}
	}
}

func FuzzFromYAML(f *testing.F) {
	for _, seed := range []string{"wait: 5s\nquiet: true", "http-listen: [1]", "a: &x 1\nb: *x", "? {a: b}\n: c", "wait: 5s\nhub"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var o options
		if err := FromYAML(flagsOf(&o), "file", text); err != nil && o != (options{listen: "here", hub: "there", wait: time.Second}) {
			t.Errorf("after a fault the settings are %+v, want the defaults", o)
		}
	})
}

func lookup(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func says(t *testing.T, err error, want ...string) {
	t.Helper()
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error is %v, want it to say %q", err, w)
		}
	}
}
