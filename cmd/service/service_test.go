package service

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/edge"
)

func TestATakenPortNamesItsHolder(t *testing.T) {
	ln, err := Listen("the test", "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Listen("the test", ln.Addr().String(), "take another")
	e, ok := errors.AsType[*edge.Error](err)
	if !ok || e.Code != edge.Conflict || e.Hint != "take another" {
		t.Fatalf("Listen = %v, want a conflict with its hint", err)
	}
	if want := fmt.Sprintf("is in use by service.test (pid %d)", os.Getpid()); !strings.HasSuffix(e.Message, want) {
		t.Errorf("Listen = %q, want it to end in %q", e.Message, want)
	}
}

func TestAnAddressThatIsNoneIsInvalid(t *testing.T) {
	_, err := Listen("the test", "nowhere", "")
	if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Invalid {
		t.Errorf("Listen = %v, want invalid", err)
	}
}

func TestNotifyTellsSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	Notify("READY=1")
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("systemd heard %q, %v, want READY=1", buf[:n], err)
	}
}

func TestLogsAreForWhoReadsThem(t *testing.T) {
	os.Unsetenv("JOURNAL_STREAM")
	for _, tt := range []struct {
		format, journal, want string
		text                  bool
	}{
		{"auto", "", `{"time":`, false},
		{"auto", "8:1", "level=INFO msg=hello", true},
		{"text", "", "time=", true},
		{"text", "8:1", "level=INFO msg=hello", true},
		{"json", "8:1", `{"time":`, false},
	} {
		if tt.journal != "" {
			t.Setenv("JOURNAL_STREAM", tt.journal)
		} else {
			os.Unsetenv("JOURNAL_STREAM")
		}
		var out bytes.Buffer
		lg, text, err := Log{Level: "info", Format: tt.format}.New(&out)
		if err != nil {
			t.Fatal(err)
		}
		lg.Info("hello")
		lg.Debug("not this")
		if text != tt.text || !strings.HasPrefix(out.String(), tt.want) || strings.Contains(out.String(), "not this") {
			t.Errorf("format %s, journal %q: text %v and %q, want %v and %q", tt.format, tt.journal, text, out.String(), tt.text, tt.want)
		}
	}
	for _, o := range []Log{{Level: "loud", Format: "text"}, {Level: "info", Format: "xml"}} {
		if _, _, err := o.New(os.Stderr); err == nil {
			t.Errorf("New of %+v = nil, want an error", o)
		}
	}
}

func TestABrokenConfigFallsBackToTheLastGood(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sedge.yaml")
	lg := slog.New(slog.NewTextHandler(t.Output(), nil))
	read := func(text string) (string, *ConfigFile, error) {
		os.Remove(path)
		var err error
		switch text {
		case "gone":
		case "a folder": // nobody can read it as a file; a mode would not stop root
			err = os.Mkdir(path, 0o700)
		default:
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		name := flags.String("node-name", "", "")
		c, err := ReadConfig(path, dir, flags)
		return *name, c, err
	}
	if _, _, err := read("node-name: [attic"); err == nil {
		t.Error("a broken file without a good one is taken, want an error")
	}
	name, c, err := read("node-name: attic")
	if err != nil || c.Fault != nil || name != "attic" {
		t.Fatalf("a good file gives %q, %+v, %v", name, c, err)
	}
	c.Keep(lg)
	for _, broken := range []string{"node-name: [cellar", "node-nam: cellar", "gone", "a folder"} {
		name, c, err := read(broken)
		if err != nil || c.Fault == nil || name != "attic" {
			t.Errorf("%q gives name %q, %+v, %v, want the last good one and its fault", broken, name, c, err)
			continue
		}
		c.Keep(lg)
	}
}

func TestAnErrorIsToldWithWhatToDo(t *testing.T) {
	hinted := &edge.Error{Code: edge.Conflict, Message: "it is taken", Hint: "take another"}
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("disk full"), "error: disk full\n"},
		{fmt.Errorf("open: %w", hinted), "error: open: it is taken\nhint: take another\n"},
	} {
		var got strings.Builder
		TellError(&got, c.err)
		if got.String() != c.want {
			t.Errorf("TellError(%v) wrote %q, want %q", c.err, got.String(), c.want)
		}
	}
}
