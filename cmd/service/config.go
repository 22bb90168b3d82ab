package service

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/keys"
)

// A ConfigFile is a file of settings, and the copy of its last good state, which
// takes its place while it is broken: a slip in an editor must not stop a node.
type ConfigFile struct {
	Path  string // "" for none
	Fault error  // why the copy is used, or nil
	good  string // the copy's path
	data  []byte
}

// goodFile is the last good copy, in the data directory.
const goodFile = "config.good.yaml"

// DataDirOf returns the data directory that the file of settings names, or its last good
// copy in dir if the file cannot be read, or else dir. It looks at nothing else: the file
// may be for another version of the program.
func DataDirOf(path, dir string) string {
	if path == "" {
		return dir
	}
	for _, file := range []string{path, filepath.Join(dir, goodFile)} {
		var named struct {
			DataDir string `yaml:"data-dir"`
		}
		data, err := settings.Read(file)
		if err != nil || yaml.Unmarshal(data, &named) != nil {
			continue
		}
		if named.DataDir != "" {
			return named.DataDir
		}
		break
	}
	return dir
}

// ReadConfig sets those flags that were not given yet from the file, or from
// its last good copy. It fails only if neither can be used.
func ReadConfig(path, dataDir string, flags *pflag.FlagSet) (*ConfigFile, error) {
	c := &ConfigFile{Path: path, good: filepath.Join(dataDir, goodFile)}
	if path == "" {
		return c, nil
	}
	if c.data, c.Fault = settings.Read(path); c.Fault == nil {
		c.Fault = settings.FromYAML(flags, path, c.data)
	}
	if c.Fault == nil {
		return c, nil
	}
	good, err := settings.Read(c.good)
	if err == nil {
		err = settings.FromYAML(flags, c.good, good)
	}
	if err != nil {
		hint := "sedge up --help lists the settings: the flags, without their dashes"
		if !errors.Is(err, fs.ErrNotExist) {
			hint = "the last good copy cannot be used either: " + err.Error()
		}
		return nil, &edge.Error{Code: edge.Invalid, Message: "read config: " + c.Fault.Error(), Hint: hint}
	}
	return c, nil
}

// Keep copies the file, with which the node has started, as its last good
// state; or says once more that it is broken.
func (c *ConfigFile) Keep(lg *slog.Logger) {
	switch {
	case c.Path == "":
		return
	case c.Fault != nil:
		lg.Error("config file is broken: running with the last good one", "file", c.Path, "using", c.good, "err", c.Fault)
		Notify("STATUS=config file is broken, running with the last good one: " + c.Fault.Error())
		return
	}
	if old, err := os.ReadFile(c.good); err == nil && bytes.Equal(old, c.data) {
		return
	}
	if err := keys.Write(c.good, c.data); err != nil {
		lg.Warn("config file could not be copied for the case that it breaks", "err", err)
	}
}

// Checks returns what is to be told of the file, if there is one. A broken one leaves the
// program ready, for it works; but somebody should see to it before the next start.
func (c *ConfigFile) Checks() []edge.Check {
	if c == nil || c.Path == "" {
		return nil
	}
	is := edge.Check{Name: "config", OK: true}
	if c.Fault != nil {
		is.Why = "the last good one is used, for " + c.Path + " is broken: " + c.Fault.Error()
	}
	return []edge.Check{is}
}

// Metric returns a metric that says whether the file is broken.
func (c *ConfigFile) Metric() prometheus.Collector {
	m := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sedge_config_fault", Help: "1 if the file of settings is broken and its last good copy is used.",
	})
	if c != nil && c.Fault != nil {
		m.Set(1)
	}
	return m
}
