package functions

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ManifestFile is what a manifest is called in its folder.
const ManifestFile = "function.yaml"

// Load reads a function from disk: path is its manifest, or the folder in which
// that is called function.yaml. Its error is [Faults] if the manifest is at fault.
func Load(path string) (Function, error) {
	m, code, err := Read(path)
	if err != nil {
		return Function{}, err
	}
	return New(m, code)
}

// Read is the first half of [Load], for who wants to change the code in between.
// The file that source.path names is read from the manifest's folder; a link
// that leads out of the folder is not followed.
func Read(path string) (m Manifest, code string, err error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ManifestFile)
	}
	text, err := readManifest(path)
	if err != nil {
		return Manifest{}, "", fmt.Errorf("read manifest: %w", err)
	}
	if m, err = Parse(path, text); err != nil {
		return Manifest{}, "", err
	}
	if m.Spec.Source.Path == "" {
		return m, m.Spec.Source.Inline, nil
	}
	code, err = readCode(filepath.Dir(path), m.Spec.Source.Path)
	if err != nil {
		return Manifest{}, "", fmt.Errorf("read source.path: %w", err)
	}
	return m, code, nil
}

func readManifest(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxManifest+1)) // Parse refuses the one byte too many
}

func readCode(folder, path string) (string, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return "", err
	}
	defer root.Close()
	info, err := root.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s: %w", filepath.Join(folder, path), fs.ErrNotExist)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", path)
	}
	f, err := root.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	code, err := io.ReadAll(io.LimitReader(f, MaxCode+1)) // New refuses the one byte too many
	return string(code), err
}
