package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sedge-iot/sedge/edge"
)

// Versions are the versions of the nodes' program that they may run, and how they come to it.
type Versions struct {
	Mark     int64                 // how many changes there were of them
	Releases []edge.Release        // by version and platform
	Upgrades []edge.UpgradeRollout // newest first; one at most is not over
}

// Versions returns them, unless nothing has changed since a mark.
func (l *Ledger) Versions(ctx context.Context, since int64) (v Versions, changed bool, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		m, err := viewMeta(ctx, tx)
		if v.Mark = m.upgrades; err != nil || v.Mark == since {
			return err
		}
		if v.Releases, err = bodies[edge.Release](ctx, tx, `SELECT body FROM releases ORDER BY version, platform`); err != nil {
			return err
		}
		v.Upgrades, err = bodies[edge.UpgradeRollout](ctx, tx, `SELECT body FROM upgrades ORDER BY id DESC`)
		return err
	})
	if err != nil {
		return Versions{}, false, fmt.Errorf("read versions: %w", err)
	}
	return v, v.Mark != since, nil
}

func bodies[T any](ctx context.Context, tx *sql.Tx, query string) (list []T, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var body string
		var one T
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(body), &one); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// PutRelease keeps a release and its program, which is read as far as the release says. The
// error is [ErrConflict] if there is another one of that version and platform: what nodes may
// run already is not replaced. One that is there already is as good as kept.
func (l *Ledger) PutRelease(who Who, r edge.Release, program io.Reader) error {
	err := l.update(func(t *tx) error {
		is, found, err := t.release(r.Version, r.Platform)
		switch {
		case err != nil:
			return err
		case found && is.Digest == r.Digest:
			return nil
		case found:
			return fmt.Errorf("%w: there is another one", ErrConflict)
		}
		body, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := t.putChunks(r, program); err != nil {
			return err
		}
		if _, err := t.Exec(`INSERT INTO releases (version, platform, digest, body) VALUES ($1, $2, $3, $4)`, r.Version, r.Platform, r.Digest, string(body)); err != nil {
			return err
		}
		t.upgrades++
		return t.audit(who, "release.put", releaseName(r.Version), r.Platform+" sha256:"+r.Digest)
	})
	if err != nil {
		return fmt.Errorf("keep release %s for %s: %w", r.Version, r.Platform, err)
	}
	return nil
}

// putChunks keeps a program, unless it is that of another release already.
func (t *tx) putChunks(r edge.Release, program io.Reader) error {
	var one int
	if there, err := t.Find(`SELECT 1 FROM release_chunks WHERE digest = $1 LIMIT 1`, []any{r.Digest}, &one); err != nil || there {
		return err
	}
	data := make([]byte, edge.ChunkSize)
	for at := int64(0); at < r.Size; at += edge.ChunkSize {
		piece := data[:min(edge.ChunkSize, r.Size-at)]
		if _, err := io.ReadFull(program, piece); err != nil {
			return err
		}
		if _, err := t.Exec(`INSERT INTO release_chunks (digest, number, data) VALUES ($1, $2, $3)`, r.Digest, at/edge.ChunkSize, piece); err != nil {
			return err
		}
	}
	return nil
}

// release returns a release, if there is one.
func (t *tx) release(version, platform string) (r edge.Release, found bool, err error) {
	var body string
	found, err = t.Find(`SELECT body FROM releases WHERE version = $1 AND platform = $2`, []any{version, platform}, &body)
	if err == nil && found {
		err = json.Unmarshal([]byte(body), &r)
	}
	return r, found, err
}

// RemoveRelease forgets a release. The error is [ErrNotFound] if there is none, and
// [ErrConflict] while an upgrade leads to it.
func (l *Ledger) RemoveRelease(who Who, version, platform string) error {
	err := l.update(func(t *tx) error {
		r, found, err := t.release(version, platform)
		if err != nil {
			return err
		}
		if !found {
			return ErrNotFound
		}
		u, under, err := t.upgradeUnderWay()
		if err != nil {
			return err
		}
		if under && string(u.To) == version {
			return fmt.Errorf("%w: upgrade %d leads to it", ErrConflict, u.ID)
		}
		if _, err := t.Exec(`DELETE FROM releases WHERE version = $1 AND platform = $2`, version, platform); err != nil {
			return err
		}
		_, err = t.Exec(`DELETE FROM release_chunks WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM releases WHERE digest = $1)`, r.Digest)
		if err != nil {
			return err
		}
		t.upgrades++
		return t.audit(who, "release.remove", releaseName(version), platform)
	})
	if err != nil {
		return fmt.Errorf("remove release %s for %s: %w", version, platform, err)
	}
	return nil
}

func releaseName(version string) string { return "release/" + version }

// ReleaseChunk returns the piece of a program that begins at offset and goes to the next
// multiple of [edge.ChunkSize], or to the end. The error is [ErrNotFound] if there is none.
func (l *Ledger) ReleaseChunk(ctx context.Context, digest string, offset int64) (data []byte, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT data FROM release_chunks WHERE digest = $1 AND number = $2`, digest, offset/edge.ChunkSize).Scan(&data)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		return err
	})
	from := offset % edge.ChunkSize
	if err == nil && (offset < 0 || from >= int64(len(data))) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read release at %d: %w", offset, err)
	}
	return data[from:], nil
}
