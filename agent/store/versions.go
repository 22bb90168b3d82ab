package store

import (
	"fmt"
	"strconv"
)

// versions counts the versions of state. The file knows only limit, which is
// raised by many at a time, so that counting costs no write of its own and no
// version comes twice, whatever is lost in a crash.
type versions struct{ last, limit int64 }

const versionsAtATime = 1 << 20

// loadVersions goes on above what is stored, and above highest, the highest
// version of a row: in a salvaged store they may differ.
func loadVersions(stored string, highest int64) (versions, error) {
	var n int64
	if stored != "" {
		var err error
		if n, err = strconv.ParseInt(stored, 10, 64); err != nil {
			return versions{}, fmt.Errorf("read the count of versions: %w", err)
		}
	}
	n = max(n, highest)
	return versions{last: n, limit: n}, nil
}

func (b *batch) nextVersion() (int64, error) {
	v := &b.versions
	if v.last == v.limit {
		v.limit += versionsAtATime
		if err := b.setMeta(metaVersions, strconv.FormatInt(v.limit, 10)); err != nil {
			return 0, err
		}
	}
	v.last++
	return v.last, nil
}
