package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/sedge-iot/sedge/functions"
)

// maxSecret is the most that a secret may weigh, in bytes.
const maxSecret = 64 << 10

// secrets is a folder with a file for each secret, as Kubernetes and systemd hand
// them out. It is read each time a runner starts: what was changed holds from then
// on. What is in the files is told to nobody but their function.
type secrets struct{ dir string }

// openSecrets returns the folder that the options name. The one of the data
// directory is made if it is missing, for its owner's eyes only.
func openSecrets(o Options) (secrets, error) {
	dir := o.SecretsDir
	if dir == "" {
		dir = filepath.Join(o.DataDir, "secrets")
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return secrets{}, fmt.Errorf("make the folder of secrets: %w", err)
		}
	}
	dir, err := filepath.Abs(dir) // for who reads the reason elsewhere
	if err != nil {
		return secrets{}, fmt.Errorf("find the folder of secrets: %w", err)
	}
	return secrets{dir}, nil
}

// read returns the secrets of those names, which are as manifests have them. What
// is missing or cannot be taken is a *functions.LackError that says what to do.
func (s secrets) read(names []string) (map[string]string, error) {
	values := map[string]string{}
	var lacks []string
	for _, name := range names {
		value, err := s.one(name)
		if err != nil {
			lacks = append(lacks, fmt.Sprintf("secret %s %s", name, err))
			continue
		}
		values[name] = value
	}
	if len(lacks) > 0 {
		return nil, &functions.LackError{What: strings.Join(lacks, "; ")}
	}
	return values, nil
}

// one reads a secret. The newline at the end is the editor's, not the secret's.
func (s secrets) one(name string) (string, error) {
	path := filepath.Join(s.dir, name)
	root, err := os.OpenRoot(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("is missing: write it to %s", path)
	}
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	defer root.Close()
	// Links are followed within the folder, as Kubernetes makes them; a pipe must
	// not be waited for.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("is missing: write it to %s", path)
	}
	if err != nil {
		return "", fmt.Errorf("cannot be read from %s: %w", s.dir, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("is no file: %s", path)
	case info.Mode().Perm()&0o007 != 0:
		return "", fmt.Errorf("is open to everyone on this machine: chmod 600 %s", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case len(text) > maxSecret:
		return "", fmt.Errorf("is larger than %d KiB: %s", maxSecret>>10, path)
	case !utf8.Valid(text):
		return "", fmt.Errorf("is no text (UTF-8), encode it as such: %s", path)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("is empty: write it to %s", path)
	}
	return value, nil
}
