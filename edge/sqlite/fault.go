package sqlite

import (
	"errors"

	driver "modernc.org/sqlite"
	code "modernc.org/sqlite/lib"
)

// errDamaged says that the file's content is not what SQLite or this program
// had written.
var errDamaged = errors.New("the file is damaged")

// Damaged reports whether err comes from what the file holds, which no waiting
// mends, and not from the disk or the request.
func Damaged(err error) bool {
	if errors.Is(err, errDamaged) {
		return true
	}
	c := resultCode(err)
	return c == code.SQLITE_CORRUPT || c == code.SQLITE_NOTADB
}

// Full reports whether err comes from a disk without space.
func Full(err error) bool { return resultCode(err) == code.SQLITE_FULL }

// Waiting reports whether err comes from a disk that is full, failing or
// read-only, or from a lock held by another: the same request may succeed later.
func Waiting(err error) bool {
	switch resultCode(err) {
	case code.SQLITE_FULL, code.SQLITE_IOERR, code.SQLITE_READONLY, code.SQLITE_CANTOPEN, code.SQLITE_PERM,
		code.SQLITE_NOMEM, code.SQLITE_BUSY, code.SQLITE_LOCKED, code.SQLITE_PROTOCOL:
		return true
	}
	return false
}

// unreadable reports whether err comes from a part of the file that the disk
// does not give out.
func unreadable(err error) bool {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		switch e.Code() {
		case code.SQLITE_IOERR_READ, code.SQLITE_IOERR_SHORT_READ, code.SQLITE_IOERR_IN_PAGE,
			code.SQLITE_IOERR_DATA, code.SQLITE_IOERR_CORRUPTFS:
			return true
		}
	}
	return false
}

// resultCode returns SQLite's primary result code, or 0 if err is not its.
func resultCode(err error) int {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}
