package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sedge-iot/sedge/cmd/node"
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
	if got := node.DataDirOf(broken, dir); got != "/from/copy" {
		t.Errorf("with a broken file it is %q, want that of the last good copy", got)
	}
}
