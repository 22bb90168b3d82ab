package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fileMax is how large a file of this package, or one given to [Read], may be, bytes.
const fileMax = 64 << 10

// Read returns what is in a file that only its owner may read; one that others can
// read is an error, for its secret may be known.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %v): if nobody has, chmod 600 it, else delete it to have a new one", path, mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return nil, err
	}
	if len(data) > fileMax {
		return nil, fmt.Errorf("%s has more than %d bytes", path, fileMax)
	}
	return data, nil
}

// Write puts data into a file that only its owner may read. After a power cut there is
// what was before or what is now; once Write has returned, what is now.
func Write(path string, data []byte) error {
	if len(data) > fileMax {
		return tooLarge(path, data)
	}
	return put(path, data, os.Rename)
}

// Create is Write for a file that is not there. If it has come up in the meantime it stays,
// and the error is [fs.ErrExist]. Only on a file system without hard links, such as FAT, one
// that comes up at the very same time can be replaced.
func Create(path string, data []byte) error {
	return create(path, data, os.Link)
}

// create is Create; link gives a file a second name, or says that this cannot be done.
func create(path string, data []byte, link func(from, to string) error) error {
	if len(data) > fileMax {
		return tooLarge(path, data)
	}
	return put(path, data, func(from, to string) error {
		err := link(from, to)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, err := os.Lstat(to); err == nil {
			return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
		}
		return os.Rename(from, to)
	})
}

func tooLarge(path string, data []byte) error {
	return fmt.Errorf("write %s: %d bytes, at most %d are read again", path, len(data), fileMax)
}

// put writes data to a file of another name, and gives it its own by arrive.
func put(path string, data []byte, arrive func(from, to string) error) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after a rename
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := arrive(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
