package hub

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/selector"
)

const (
	mostUses     = 10_000 // of a join token
	secretBytes  = 16     // of a join token
	tokenIDBytes = 8
)

func (h *Hub) makeToken(r *request) (any, error) {
	var want edge.TokenAsk
	if err := r.decode(&want); err != nil {
		return nil, err
	}
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	switch {
	case want.TTL <= 0 || want.TTL > edge.MaxTokenTTL:
		return nil, invalid("", "ttl must be more than nothing and at most %s", edge.MaxTokenTTL)
	case want.Uses < 0 || want.Uses > mostUses:
		return nil, invalid("", "uses must be at most %d", mostUses)
	}
	if err := selector.Check(want.Labels); err != nil {
		return nil, err
	}
	id, secret := make([]byte, tokenIDBytes), make([]byte, secretBytes)
	rand.Read(id) // never fails
	rand.Read(secret)
	now := time.Now().UTC()
	k := edge.Token{
		ID: hex.EncodeToString(id), Labels: want.Labels, Uses: max(want.Uses, 1), Approval: want.Approval,
		Expires: now.Add(want.TTL), By: who.By, Made: now,
	}
	if err := h.Ledger.MakeToken(k, sha256.Sum256(secret), who); err != nil {
		return nil, refused(err, "token")
	}
	text := edge.Invitation{Token: k.ID, Secret: secret, HubKey: h.Fleet.Key.Public().(ed25519.PublicKey), CA: h.CA}.String()
	return edge.TokenMade{Token: k, Text: text}, nil
}

func (h *Hub) listTokens(r *request) (any, error) {
	all, err := h.Ledger.Tokens(r.Context())
	if err != nil {
		return nil, err
	}
	list := []edge.Token{}
	for _, k := range all {
		if k.Uses > 0 && time.Now().Before(k.Expires) {
			list = append(list, k)
		}
	}
	return map[string][]edge.Token{"tokens": list}, nil
}

func (h *Hub) revokeToken(r *request) (any, error) {
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	return nil, refused(h.Ledger.RevokeToken(r.PathValue("token"), who), "join token")
}

func (h *Hub) makeOperator(r *request) (any, error) {
	var want edge.Operator
	if err := r.decode(&want); err != nil {
		return nil, err
	}
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	if err := checkOperator(want); err != nil {
		return nil, err
	}
	secret := make([]byte, tokenBytes)
	rand.Read(secret) // never fails
	text := base64.RawURLEncoding.EncodeToString(secret)
	want.Made, want.By, want.Used = time.Now().UTC(), who.By, time.Time{}
	if err := h.Ledger.MakeOperator(want, sha256.Sum256([]byte(text)), who); err != nil {
		return nil, refused(err, "operator")
	}
	return edge.OperatorMade{Operator: want, Text: text}, nil
}

func checkOperator(o edge.Operator) error {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-."
	switch {
	case o.Name == "" || len(o.Name) > 63 || strings.Trim(o.Name, letters) != "":
		return invalid("", "a name has 1 to 63 small letters, digits, dashes and dots")
	case o.Name == ownerName:
		return invalid("", "%s is the one whose token is in the hub's token file", ownerName)
	case !o.Role.May(viewer):
		return invalid("viewer, deployer or admin", "there is no role %.20q", o.Role)
	case o.Role == edge.Admin && o.Scope != "":
		return invalid("make a deployer or a viewer with that scope", "an admin has no scope: who lets nodes and operators in reaches all of them")
	case !o.Expires.IsZero() && !o.Expires.After(time.Now()):
		return invalid("", "the token would have expired already")
	}
	_, err := selector.Parse(o.Scope)
	return err
}

func (h *Hub) listOperators(r *request) (any, error) {
	all, err := h.Ledger.Operators(r.Context())
	if err != nil {
		return nil, err
	}
	return map[string][]edge.Operator{"operators": append([]edge.Operator{}, all...)}, nil
}

func (h *Hub) deleteOperator(r *request) (any, error) {
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	return nil, refused(h.Ledger.DeleteOperator(r.PathValue("operator"), who), "operator")
}

func (h *Hub) audit(r *request) (any, error) {
	p := r.params("object", "before", "last")
	q := ledger.AuditQuery{
		Object: p.text("object", 256),
		Before: p.number("before", 0, 0, math.MaxInt64),
		Limit:  int(min(p.number("last", onePage, 1, math.MaxInt64), mostPage)),
	}
	if p.err != nil {
		return nil, p.err
	}
	list, err := h.Ledger.Audit(r.Context(), q)
	if err != nil {
		return nil, err
	}
	return map[string][]edge.AuditEntry{"audit": append([]edge.AuditEntry{}, list...)}, nil
}

// verifyAudit follows the whole audit log.
func (h *Hub) verifyAudit(r *request) (any, error) {
	if p := r.params(); p.err != nil {
		return nil, p.err
	}
	err := h.Ledger.VerifyAudit(r.Context())
	if broken, ok := errors.AsType[*ledger.BrokenError](err); ok {
		h.Logger.Error("audit log is not as it was written", "number", broken.Number, "err", broken)
		return edge.AuditVerdict{Broken: broken.Number, Why: broken.Error()}, nil
	}
	return edge.AuditVerdict{Intact: err == nil}, err
}

// refused turns what the ledger refuses about a thing into what is told.
func refused(err error, thing string) error {
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no such %s", thing)}
	case errors.Is(err, ledger.ErrRevoked):
		return &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("the %s is revoked, for ever", thing)}
	case errors.Is(err, ledger.ErrNoRoom):
		return &edge.Error{Code: edge.NoRoom, Message: err.Error()}
	case errors.Is(err, ledger.ErrConflict):
		return &edge.Error{Code: edge.Conflict, Message: err.Error()}
	}
	return err
}
