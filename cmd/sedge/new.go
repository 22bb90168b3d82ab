package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/functions"
)

// template is the folder that "sedge new" writes; NAME in it is replaced.
//
//go:embed template
var template embed.FS

func newNew(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "new NAME",
		Short: "Write a folder with a first function",
		Long: `Write a folder with a manifest and a few lines of JavaScript: a lamp that goes on
when somebody moves in the dark. Change the topics to those of your devices.`,
		Example: `  sedge new night-light
  sedge deploy -f night-light --wait`,
		RunE: func(_ *cobra.Command, args []string) error { return sh.writeTemplate(args[0]) },
	}
}

// writeTemplate writes the template into the folder, which must be new or empty.
func (sh *shell) writeTemplate(folder string) error {
	name := filepath.Base(folder)
	files, err := fillTemplate(name)
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(folder); err == nil && len(entries) > 0 {
		return wrongUsage("choose another name, or deploy what is there: sedge deploy -f "+folder, "%s is there already", folder)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write function: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write function: %w", err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write function: %w", err)
		}
	}
	if done, err := sh.structured(map[string]string{"name": name, "folder": folder}); done {
		return err
	}
	fmt.Fprintln(sh.out, folder)
	sh.say("Next: sedge deploy -f %s --wait", folder)
	return nil
}

// fillTemplate returns the template's files for a function of that name. The
// name is judged by the rules of manifests themselves.
func fillTemplate(name string) (map[string]string, error) {
	files := map[string]string{}
	entries, err := template.ReadDir("template")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := template.ReadFile("template/" + e.Name())
		if err != nil {
			return nil, err
		}
		files[e.Name()] = strings.ReplaceAll(string(text), "NAME", name)
	}
	m, err := functions.Parse(functions.ManifestFile, []byte(files[functions.ManifestFile]))
	if err == nil && m.Metadata.Name == name {
		return files, nil
	}
	if faults, ok := errors.AsType[functions.Faults](err); ok && len(faults) > 0 {
		return nil, wrongUsage("like night-light", "%q cannot be a function's name: %s", name, faults[0].Message)
	}
	return nil, wrongUsage("like night-light", "%q cannot be a function's name", name)
}
