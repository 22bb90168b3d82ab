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

	"github.com/sedge-iot/sedge/edge/keys"
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
	if err := keys.Write(s.path, append(data, '\n')); err != nil {
		return fmt.Errorf("write broker session: %w", err)
	}
	return nil
}
