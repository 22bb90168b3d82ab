package node

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sessionFile is where a node keeps what its session at the broker holds.
const sessionFile = "mqtt.json"

// A session is what a node must know of its session at the broker to find it
// again: under which name the broker keeps it, and which filters it holds.
type session struct {
	path string

	Client string          `json:"client"`
	Broker string          `json:"broker"`
	Held   map[string]bool `json:"held,omitempty"`
}

// openSession reads the session that the data directory knows of, or begins
// one. At another broker nothing of the old session is known.
func openSession(dir, node, broker string) (*session, error) {
	s := &session{path: filepath.Join(dir, sessionFile)}
	data, err := os.ReadFile(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read broker session: %w", err)
	}
	if json.Unmarshal(data, s) == nil && s.Client != "" && s.Broker == broker {
		return s, nil
	}
	if s.Client == "" {
		s.Client = clientID(node)
	}
	s.Broker, s.Held = broker, nil
	return s, s.save()
}

// clientID makes a name for the broker: two nodes of one name must not take
// each other's session.
func clientID(node string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(node))
	return fmt.Sprintf("sedge-%.40s-%s", plain, strings.ToLower(rand.Text()[:8]))
}

// save replaces the file as a whole.
func (s *session) save() error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write broker session: %w", err)
	}
	if err := Replace(s.path, append(data, '\n')); err != nil {
		return fmt.Errorf("write broker session: %w", err)
	}
	return nil
}

// Replace writes a file so that, whatever happens, either the old one or the
// new one is there. Only its owner may read it.
func Replace(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
