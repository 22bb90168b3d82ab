package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

func TestAVersionIsLookedForWhereTheNodeKeepsItsData(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := file("sedge.yaml", "data-dir: /from/file\na-setting-of-tomorrow: [1]\n")
	broken := file("broken.yaml", "data-dir: [")
	file("config.good.yaml", "data-dir: /from/copy\n")
	usual := node.DataDir(os.LookupEnv)
	for _, c := range []struct {
		args []string
		env  map[string]string
		want string // "": it is not looked for
	}{
		{nil, nil, usual},
		{[]string{"--mqtt", "mqtt://x", "--data-dir", "/d"}, nil, "/d"},
		{[]string{"--data-dir=/d", "--a-flag-of-tomorrow", "--another", "x", "--pool", "-1"}, map[string]string{"SEDGE_DATA_DIR": "/e"}, "/d"},
		{nil, map[string]string{"SEDGE_DATA_DIR": "/e"}, "/e"},
		{[]string{"--config", config}, nil, "/from/file"},
		{nil, map[string]string{"SEDGE_CONFIG": config}, "/from/file"},
		{[]string{"--config", config, "--data-dir", "/d"}, nil, "/d"},
		{[]string{"--config", broken}, nil, usual},
		{[]string{"--config", broken, "--data-dir", dir}, nil, dir},
		{[]string{"--version"}, nil, ""},
		{[]string{"--help"}, nil, ""},
		{[]string{"-h"}, nil, ""},
		{[]string{"up"}, nil, ""},
		{[]string{node.RunnerCommand}, nil, ""},
		{[]string{node.KeeperCommand}, nil, ""},
		{[]string{"--data-dir"}, nil, ""},
	} {
		lookup := func(name string) (string, bool) {
			v, ok := c.env[name]
			if !ok && (name == "HOME" || name == "XDG_STATE_HOME") {
				return os.LookupEnv(name)
			}
			return v, ok
		}
		if got := place(c.args, lookup).Dir; got != c.want {
			t.Errorf("for %q and %v it is looked for in %q, want %q", c.args, c.env, got, c.want)
		}
	}
	if got := service.DataDirOf(broken, dir); got != "/from/copy" {
		t.Errorf("with a broken file it is %q, want that of the last good copy", got)
	}
}

func TestItEndsForAVersionThatIsSelected(t *testing.T) {
	data, content := t.TempDir(), []byte("the next version")
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys.pub")
	if err := os.WriteFile(keys, []byte(public.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	slots := upgrade.Enter(place([]string{"--data-dir", data}, os.LookupEnv))
	ended := make(chan error, 1)
	go func() { // awaited below
		ended <- run(t.Context(), []string{"--data-dir", data, "--mqtt", "mqtt://127.0.0.1:1", "--http-listen", "off", "--ops-listen", "off", "--upgrade-keys", keys}, slots)
	}()

	signed := minisign.NewReader(bytes.NewReader(content))
	if _, err := io.Copy(io.Discard, signed); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	o := upgrade.Offer{
		Slot:      upgrade.Slot{Version: "v9.0.0", Digest: hex.EncodeToString(sum[:]), Size: int64(len(content))},
		Platform:  upgrade.Platform(),
		Signature: string(signed.SignWithComments(private, upgrade.Comment("sedge-agent", "v9.0.0", upgrade.Platform()), "")),
	}
	a, err := slots.Offer(o)
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); { // until it knows the keys
		a, err = slots.Offer(o)
	}
	if err == nil {
		err = a.Write(0, content)
	}
	if err != nil {
		t.Fatal(err)
	}
	slot, err := a.Finish()
	if err == nil {
		err = slots.Select(slot, 1, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, upgrade.ErrRestart) {
		t.Errorf("run = %v, want ErrRestart", err)
	}
}
