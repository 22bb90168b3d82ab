package ledger

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
)

// Table tokens holds edge.Token by id, with the SHA-256 of its secret and how often a
// wrong secret was shown with it. A token stays for a day after it expired, so that
// who comes with it can be told why it is of no use.
const (
	maxTokens  = 10_000
	maxWrong   = 20 // secrets that are wrong burn a token
	tokenStays = 24 * time.Hour
)

// What else [Ledger.Join] may fail with.
var (
	ErrNoToken     = errors.New("there is no such join token")
	ErrExpired     = errors.New("it has expired")
	ErrUsedUp      = errors.New("it is used up")
	ErrWrongSecret = errors.New("the secret is wrong")
	ErrBurnt       = errors.New("it was shown with wrong secrets too often")
)

// A Hash is the SHA-256 of a secret: the secrets themselves are not kept.
type Hash = [sha256.Size]byte

// MakeToken adds a join token, whose id must be new. It expires at the latest in
// [edge.MaxTokenTTL]. The error may be [ErrConflict] or [ErrNoRoom].
func (l *Ledger) MakeToken(k edge.Token, secret Hash, who Who) error {
	err := l.update(func(t *tx) error {
		if left := k.Expires.Sub(t.now); left <= 0 || left > edge.MaxTokenTTL || k.Uses < 1 {
			return fmt.Errorf("it is to last for %s and be used %d times: at most %s, at least once", left, k.Uses, edge.MaxTokenTTL)
		}
		if _, err := t.Exec(`DELETE FROM tokens WHERE expires < $1`, sqlite.Nanos(t.now.Add(-tokenStays))); err != nil {
			return err
		}
		if err := t.room(`SELECT count(*), count(CASE WHEN id = $1 THEN 1 END) FROM tokens`, k.ID, maxTokens); err != nil {
			return err
		}
		_, err := t.Exec(`INSERT INTO tokens (id, secret, labels, uses, approval, expires, by, made, wrong) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)`,
			k.ID, secret[:], labelText(k.Labels), k.Uses, k.Approval, sqlite.Nanos(k.Expires), who.By, sqlite.Nanos(t.now))
		if err != nil {
			return err
		}
		return t.audit(who, "token.make", "token/"+k.ID, fmt.Sprintf("%d uses until %s", k.Uses, k.Expires.UTC().Format(time.RFC3339)))
	})
	if err != nil {
		return fmt.Errorf("make join token %s: %w", k.ID, err)
	}
	return nil
}

// room asks how many rows there are, and of these with a key.
func (t *tx) room(query, key string, limit int) error {
	var all, same int
	if _, err := t.Find(query, []any{key}, &all, &same); err != nil {
		return err
	}
	switch {
	case same > 0:
		return fmt.Errorf("%w: there is one already", ErrConflict)
	case all >= limit:
		return fmt.Errorf("%w: %d", ErrNoRoom, limit)
	}
	return nil
}

const tokenColumns = `id, labels, uses, approval, expires, by, made`

func scanToken(scan func(...any) error, more ...any) (k edge.Token, err error) {
	var labels string
	var expires, made int64
	if err := scan(append([]any{&k.ID, &labels, &k.Uses, &k.Approval, &expires, &k.By, &made}, more...)...); err != nil {
		return edge.Token{}, err
	}
	k.Expires, k.Made = sqlite.Time(expires), sqlite.Time(made)
	k.Labels, err = parseLabels(labels)
	return k, err
}

// Tokens returns the join tokens, newest first, those of the last day among them that
// are of no use any more.
func (l *Ledger) Tokens(ctx context.Context) (list []edge.Token, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+tokenColumns+` FROM tokens ORDER BY made DESC, id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			k, err := scanToken(rows.Scan)
			if err != nil {
				return err
			}
			list = append(list, k)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list join tokens: %w", err)
	}
	return list, nil
}

// RevokeToken deletes a join token, or fails with [ErrNotFound].
func (l *Ledger) RevokeToken(id string, who Who) error {
	err := l.update(func(t *tx) error {
		return t.drop(`DELETE FROM tokens WHERE id = $1`, id, who, "token.revoke", "token/"+id)
	})
	if err != nil {
		return fmt.Errorf("revoke join token %s: %w", id, err)
	}
	return nil
}

// drop deletes the row with a key.
func (t *tx) drop(query, key string, who Who, action, object string) error {
	gone, err := t.Exec(query, key)
	if err != nil {
		return err
	}
	if n, err := gone.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrNotFound)
	}
	return t.audit(who, action, object, "")
}

// Join adds the node that the proof is of, with a use of its join token, or neither.
// It gets the token's labels, and of its own those that the token does not name. A
// node that is known already dials, as with [Ledger.Dialled], and the token is not
// touched: so a node whose answer was lost can come again.
//
// The errors are [ErrNoToken], [ErrWrongSecret], [ErrBurnt], [ErrExpired], [ErrUsedUp],
// [ErrRevoked], [ErrInvalid], and [ErrConflict] if another node has the name. The
// audit log has who joined and each wrong secret, of which a token suffers few; the
// rest is for the caller to note.
func (l *Ledger) Join(p edge.Proof, address string) (n edge.Node, err error) {
	var refused error
	err = l.together(func(t *tx) error {
		n, refused = edge.Node{}, nil
		known, err := t.node(edge.NodeID(p.Key))
		switch {
		case err == nil && known.Standing != edge.Departed:
			n, refused, err = t.dialled(p, address)
			return err
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		n, err = t.join(p, address)
		if r, ok := errors.AsType[refusal](err); ok {
			refused, err = r.error, nil
		}
		return err
	})
	if err = errors.Join(refused, err); err != nil {
		return edge.Node{}, fmt.Errorf("join as %s: %w", p.Name, err)
	}
	return n, nil
}

// A refusal is an error that leaves the transaction as it is, to be committed.
type refusal struct{ error }

func (t *tx) join(p edge.Proof, address string) (n edge.Node, err error) {
	if p.Join == nil {
		return n, refusal{ErrNoToken}
	}
	k, err := t.redeemable(*p.Join, Who{"node/" + p.Name, address})
	if err != nil {
		return n, err
	}
	n = newcomer(p, k)
	n.Joined, n.Address = t.now, fit(address, maxName)
	if err := fits(n.Name, n.Labels); err != nil {
		return n, refusal{err}
	}
	if err := t.nameFree(n.Name); errors.Is(err, ErrConflict) {
		return n, refusal{err}
	} else if err != nil {
		return n, err
	}
	if _, err := t.Exec(`UPDATE tokens SET uses = uses - 1 WHERE id = $1`, k.ID); err != nil {
		return n, err
	}
	if err := t.putNode(n); err != nil {
		return n, err
	}
	return n, t.audit(Who{"node/" + n.Name, address}, "node.join", "node/"+n.Name,
		fmt.Sprintf("%s as %s, with token %s of %s", n.ID, n.Standing, k.ID, k.By))
}

// newcomer returns the node that the proof is of, with what the token gives it.
func newcomer(p edge.Proof, k edge.Token) edge.Node {
	n := edge.Node{
		ID: edge.NodeID(p.Key), Name: p.Name, Key: p.Key, Labels: map[string]string{}, Standing: edge.Member, Token: k.ID,
		Counter: p.Counter, Version: fit(p.Version, maxName), Platform: fit(p.Platform, maxName),
	}
	maps.Copy(n.Labels, p.Labels)
	maps.Copy(n.Labels, k.Labels)
	if k.Approval {
		n.Standing = edge.Waiting
	}
	return n
}

// redeemable returns the join token that a node shows if it can be used.
func (t *tx) redeemable(j edge.Join, who Who) (k edge.Token, err error) {
	var secret []byte
	var wrong int
	found := false
	k, err = scanToken(func(into ...any) error {
		found, err = t.Find(`SELECT `+tokenColumns+`, secret, wrong FROM tokens WHERE id = $1`, []any{fit(j.Token, maxName)}, into...)
		return err
	}, &secret, &wrong)
	shown := sha256.Sum256(j.Secret)
	switch {
	case err != nil:
		return k, err
	case !found:
		return k, refusal{ErrNoToken}
	case wrong >= maxWrong:
		return k, refusal{ErrBurnt}
	case subtle.ConstantTimeCompare(shown[:], secret) == 0:
		return k, t.wrong(k, wrong+1, who)
	case !t.now.Before(k.Expires):
		return k, refusal{ErrExpired}
	case k.Uses <= 0:
		return k, refusal{ErrUsedUp}
	}
	return k, nil
}

// wrong counts a wrong secret.
func (t *tx) wrong(k edge.Token, count int, who Who) error {
	if _, err := t.Exec(`UPDATE tokens SET wrong = $1 WHERE id = $2`, count, k.ID); err != nil {
		return err
	}
	detail := fmt.Sprintf("%d of %d wrong secrets that burn it", count, maxWrong)
	if err := t.audit(who, "token.wrong", "token/"+k.ID, detail); err != nil {
		return err
	}
	return refusal{ErrWrongSecret}
}
