package member

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge/keys"
)

// The files of a home, each replaced as a whole and readable by its owner alone:
//
//	node.key    the node's key: it is made here and never leaves
//	hub.json    a Hub, once the node has been admitted
//	dials.json  a ledgerOfDials
//	away.json   an edge.Away, while the node has no hub
//	held        why the owner lets nothing in, if he does not
const (
	keyFile   = "node.key"
	hubFile   = "hub.json"
	dialsFile = "dials.json"
	awayFile  = "away.json"
	heldFile  = "held"
)

// A Hub is what a node keeps of the hub that it belongs to.
type Hub struct {
	URL  string            `json:"url"`
	Key  ed25519.PublicKey `json:"key"`
	CA   []byte            `json:"ca,omitempty"` // SHA-256 of the certificate of its own authority, or nil
	ID   string            `json:"id"`           // the node's, there
	Name string            `json:"name"`         // the node's, there
}

// ErrNotJoined says that a node belongs to no hub.
var ErrNotJoined = errors.New("this node has not joined a hub")

// A Home is the folder in which a node keeps who it is. It is used by one Member, and
// its methods may be called from several goroutines.
type Home struct {
	dir string
	key ed25519.PrivateKey
	hub Hub // the zero value: none yet

	mu    sync.Mutex
	dials ledgerOfDials // as it is on the disk; guarded by mu
	used  int64         // the last number given out; guarded by mu
}

// A ledgerOfDials says up to where numbers of dials may have been used, and a time that
// has passed for certain. Numbers are taken from it in advance: a card is not to be
// written for each of the dials of a node that has no hub for years.
type ledgerOfDials struct {
	Reserved int64     `json:"reserved"`
	Floor    time.Time `json:"floor,omitzero"`
}

const (
	reserve   = 64             // numbers of dials for one write
	floorStep = 24 * time.Hour // by which the floor rises at least
)

// OpenHome opens the home of a node that has joined. If it has not, the error is
// [ErrNotJoined], and nothing is made.
func OpenHome(dir string) (*Home, error) {
	_, err := os.Stat(filepath.Join(dir, hubFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotJoined
	}
	var h *Home
	if err == nil {
		h, err = openHome(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return h, nil
}

// Belong makes dir the home of a node of a hub that knows its key already, or is told of
// it now by admit, and needs no invitation: for a program that is both. What the home
// said before of that hub is replaced.
func Belong(dir string, hub Hub, admit func(key ed25519.PublicKey) error) error {
	h, err := openHome(dir)
	if err == nil {
		err = admit(h.key.Public().(ed25519.PublicKey))
	}
	if err == nil {
		err = h.write(hubFile, hub)
	}
	if err != nil {
		return fmt.Errorf("make %s a home: %w", dir, err)
	}
	return nil
}

// openHome opens a home, made if need be.
func openHome(dir string) (*Home, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	h := &Home{dir: dir}
	var err error
	if h.key, err = keys.Open(h.path(keyFile)); err != nil {
		return nil, err
	}
	if err := h.read(hubFile, &h.hub); err != nil {
		return nil, err
	}
	if err := h.read(dialsFile, &h.dials); errors.As(err, new(*damagedError)) {
		h.dials = ledgerOfDials{Reserved: time.Now().Unix()} // more dials than seconds there never were
	} else if err != nil {
		return nil, err
	}
	h.used = h.dials.Reserved
	return h, nil
}

// Hub returns the hub that the node belongs to.
func (h *Home) Hub() Hub { return h.hub }

func (h *Home) path(name string) string { return filepath.Join(h.dir, name) }

// read reads a file as JSON; one that is not there leaves v as it is.
func (h *Home) read(name string, v any) error {
	data, err := keys.Read(h.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return &damagedError{h.path(name), err}
	}
	return nil
}

// A damagedError says that a file holds something else than was written to it.
type damagedError struct {
	path string
	err  error
}

func (e *damagedError) Error() string { return e.path + " is not as it was written: " + e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

func (h *Home) write(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return keys.Write(h.path(name), data)
}

func (h *Home) remove(name string) error {
	if err := os.Remove(h.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// nextDial returns the number of a dial: one that no dial before had, whatever happens.
func (h *Home) nextDial() (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.used == h.dials.Reserved {
		d := h.dials
		d.Reserved += reserve
		if err := h.write(dialsFile, d); err != nil {
			return 0, fmt.Errorf("store the number of the dial: %w", err)
		}
		h.dials = d
	}
	h.used++
	return h.used, nil
}

// floor returns a time that has passed for certain, as far as the hub has said.
func (h *Home) floor() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dials.Floor
}

// passed notes that a time has passed for certain.
func (h *Home) passed(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.Sub(h.dials.Floor) < floorStep {
		return nil
	}
	d := h.dials
	d.Floor = t
	if err := h.write(dialsFile, d); err != nil {
		return fmt.Errorf("store the hub's time: %w", err)
	}
	h.dials = d
	return nil
}
