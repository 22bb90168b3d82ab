package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ballastSize is enough for the log, as long as it may become (256 pages and a
// batch), to be copied into the file: then the log begins anew and takes
// deletions without growing. In bytes.
const ballastSize = 4 << 20

// A ballast is a file that only takes up space. On a full disk SQLite cannot
// even delete, since it writes a log first: letting the ballast go gives it the
// room to do so.
type ballast struct {
	path  string
	there bool
}

// make reserves the space. It writes no data where the file system can reserve
// without.
func (b *ballast) make() error {
	if info, err := os.Stat(b.path); err == nil && info.Size() == ballastSize {
		b.there = true
		return nil
	}
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, ballastSize)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		_, err = f.Write(make([]byte, ballastSize))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("reserve %d bytes: %w", ballastSize, err), os.Remove(b.path))
	}
	b.there = true
	return nil
}

// release gives the space back and reports whether there was any.
func (b *ballast) release() bool {
	had := b.there && os.Remove(b.path) == nil
	b.there = false
	return had
}
