package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"aead.dev/minisign"
	"golang.org/x/mod/semver"
	"golang.org/x/sys/unix"
)

// MaxSize is the most that a program may weigh, bytes.
const MaxSize = 128 << 20

// spare is what an arriving version leaves free on the disk, bytes.
const spare = 32 << 20

// An Offer is a version that a node could have.
type Offer struct {
	Slot
	Platform  string // that it was built for, see [Platform]
	Signature string // minisign's, with the trusted comment of [Comment]
	Downgrade bool   // an operator wants it although it is older than what runs
	Order     int64  // by which an operator wants it: a version that was given up is taken again by another one only
}

// A Refusal says that a version is not taken.
type Refusal struct {
	Reason Reason
	Why    string
}

func (r *Refusal) Error() string { return "upgrade refused: " + r.Why }

func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// A Reason is a kind of refusal.
type Reason string

// Why a version is not taken.
const (
	RefusedMalformed Reason = "malformed" // what nobody offers
	RefusedUntrusted Reason = "untrusted" // no trusted key has signed it as what it is offered as
	RefusedPlatform  Reason = "platform"  // it is for another kind of machine
	RefusedOlder     Reason = "older"     // than what runs, and no operator wants that
	RefusedCurrent   Reason = "current"   // it is what runs
	RefusedFailed    Reason = "failed"    // it was given up here, by the same order
	RefusedRoom      Reason = "room"      // the disk is too full
	RefusedDamaged   Reason = "damaged"   // what came is not what was offered
	RefusedMissing   Reason = "missing"   // it is not here
	RefusedUnusable  Reason = "unusable"  // the data directory cannot hold versions
)

// ErrOffset says that a piece does not follow on what has come; see [Arrival.Offset].
var ErrOffset = errors.New("the piece does not follow on what has come")

// An Arrival is a version on its way. Its methods may be called from several goroutines.
// What has come stays when it is not finished, for the next offer of the same version;
// another offer takes its place.
type Arrival struct {
	slots     *Slots
	slot      Slot
	key       minisign.PublicKey
	signature string

	mu    sync.Mutex
	file  *os.File // guarded by mu; nil: it is whole, or let go
	at    int64    // guarded by mu; bytes that have come
	whole bool     // guarded by mu
}

// Offer judges what is offered, before a byte of it has come, and makes room for it.
// A [*Refusal] says why it is not taken.
func (s *Slots) Offer(o Offer) (*Arrival, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := s.judgeLocked(o)
	if err != nil {
		return nil, err
	}
	if s.arriving != nil {
		s.arriving.Close() // what has come by it is read anew, or goes
	}
	s.arriving = &Arrival{slots: s, slot: o.Slot, key: key, signature: o.Signature}
	if err := s.receiveLocked(s.arriving); err != nil {
		return nil, err
	}
	return s.arriving, nil
}

// judgeLocked returns the key that has signed what is offered.
func (s *Slots) judgeLocked(o Offer) (key minisign.PublicKey, err error) {
	switch {
	case s.fault != nil:
		return key, refuse(RefusedUnusable, "%v", s.fault)
	case s.keys == "":
		return key, refuse(RefusedUntrusted, "this node trusts no key: --upgrade-keys is not set")
	}
	if err := o.check(); err != nil {
		return key, refuse(RefusedMalformed, "%v", err)
	}
	keys, err := ReadKeys(s.keys)
	if err != nil {
		return key, refuse(RefusedUntrusted, "read trusted keys: %v", err)
	}
	if key, err = signer(keys, o.Signature, Comment(s.place.Program, o.Version, o.Platform)); err != nil {
		return key, refuse(RefusedUntrusted, "%v", err)
	}
	switch failed := s.state.Failed; {
	case o.Platform != s.place.Platform:
		return key, refuse(RefusedPlatform, "it is for %s, this is %s", o.Platform, s.place.Platform)
	case o.Digest == s.running:
		return key, refuse(RefusedCurrent, "%s is what runs", o.Version)
	case !o.Downgrade && semver.Compare(o.Version, s.versionLocked()) < 0:
		return key, refuse(RefusedOlder, "%s is older than %s, which runs", o.Version, s.versionLocked())
	case failed != nil && !failed.Doubt && failed.Slot.Digest == o.Digest && failed.Order == o.Order:
		return key, refuse(RefusedFailed, "%s was given up here: %s", o.Version, failed.Why)
	}
	return key, nil
}

// receiveLocked finds what has come of a version, and sees that there is room for the rest.
func (s *Slots) receiveLocked(a *Arrival) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.lock == nil {
		if err := s.open(); err != nil {
			return refuse(RefusedUnusable, "%v", err)
		}
	}
	if err := s.sweepLocked(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.path()), 0o700); err != nil {
		return err
	}
	if verifySigned(a.path(), a.slot, &a.key, a.signature) == nil { // else it is not there, or to be replaced
		a.at, a.whole = a.slot.Size, true
		return nil
	}
	if err := a.open(); err != nil {
		return err
	}
	if err := room(s.dir, a.slot.Size-a.at); err != nil {
		return errors.Join(err, a.Close())
	}
	return nil
}

// room returns a refusal if the disk would be too full with so many bytes more.
func room(dir string, more int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < more+spare {
		return refuse(RefusedRoom, "%d MiB are free, and %d are needed", free>>20, (more+spare)>>20+1)
	}
	return nil
}

// path returns where the whole version will be.
func (a *Arrival) path() string { return a.slots.file(a.slot) }

func (a *Arrival) part() string { return a.path() + ".part" }

// open opens the part that has come.
func (a *Arrival) open() error {
	f, err := os.OpenFile(a.part(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > a.slot.Size {
		err = f.Truncate(0)
	} else if err == nil {
		a.at = info.Size()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.file = f
	return nil
}

// Offset returns how many bytes have come, which is where the next piece begins.
func (a *Arrival) Offset() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at
}

// Write takes the piece that begins at offset. The error is [ErrOffset] if it does not
// follow on what has come; nothing is taken then.
func (a *Arrival) Write(offset int64, piece []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case offset != a.at:
		return fmt.Errorf("%w: it is at %d, and %d have come", ErrOffset, offset, a.at)
	case int64(len(piece)) > a.slot.Size-a.at:
		return fmt.Errorf("write %s: more than its %d bytes", a.slot.Version, a.slot.Size)
	case len(piece) == 0:
		return nil
	case a.file == nil:
		return fmt.Errorf("write %s: %w", a.slot.Version, os.ErrClosed)
	}
	if _, err := a.file.WriteAt(piece, offset); err != nil {
		return fmt.Errorf("write %s: %w", a.slot.Version, err)
	}
	a.at += int64(len(piece))
	return nil
}

// Finish makes a whole version of what has come, if that is what was offered. A
// [*Refusal] says that it is not; then nothing of it is kept.
func (a *Arrival) Finish() (Slot, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.whole:
		return a.slot, nil
	case a.file == nil:
		return Slot{}, fmt.Errorf("finish %s: %w", a.slot.Version, os.ErrClosed)
	case a.at < a.slot.Size:
		return Slot{}, fmt.Errorf("finish %s: %d of its %d bytes are missing", a.slot.Version, a.slot.Size-a.at, a.slot.Size)
	}
	if err := verifySigned(a.part(), a.slot, &a.key, a.signature); err != nil {
		err = refuse(RefusedDamaged, "%v", err)
		a.at = 0
		return Slot{}, errors.Join(err, a.file.Truncate(0))
	}
	err := errors.Join(a.file.Chmod(0o755), a.file.Sync(), a.file.Close())
	a.file = nil
	if err == nil {
		err = a.settle()
	}
	if err != nil {
		return Slot{}, fmt.Errorf("finish %s: %w", a.slot.Version, err)
	}
	a.whole = true
	return a.slot, nil
}

// settle gives the whole file its name, and sees that each folder on the way to it
// knows.
func (a *Arrival) settle() error {
	if err := os.Rename(a.part(), a.path()); err != nil {
		return err
	}
	own := filepath.Dir(a.path())
	return errors.Join(syncDir(own), syncDir(a.slots.dir), syncDir(a.slots.place.Dir))
}

// Close lets go of an arrival. What has come stays.
func (a *Arrival) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}
