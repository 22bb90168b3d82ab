package hub

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/selector"
)

// ownerName is the operator whose token is in the hub's token file. He may do
// everything.
const ownerName = "owner"

// An asker is the operator that a request is of.
type asker struct {
	edge.Operator
	scope selector.Selector // of the nodes that he may see and touch
}

type askerKey struct{}

// asker returns who the request is of. It is for requests behind authentic.
func (r *request) asker() asker { return r.Context().Value(askerKey{}).(asker) }

// who returns who asks and from where, for history and audit: the operator, and whom
// he says to be where several people share the owner's token.
func (r *request) who() (ledger.Who, error) {
	by := r.asker().Name
	if by == ownerName {
		user, err := r.user()
		if err != nil {
			return ledger.Who{}, err
		}
		if user != "" {
			by = user
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return ledger.Who{By: by, Address: host}, nil
}

// user returns who says to ask.
func (r *request) user() (string, error) {
	user := r.Header.Get("Sedge-User")
	if len(user) > 64 || strings.ContainsFunc(user, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", invalid("", "Sedge-User must be at most 64 printable characters")
	}
	return user, nil
}

// authentic returns the request as that of the operator whose token it shows, who must
// have the role.
func (h *Hub) authentic(w http.ResponseWriter, r *http.Request, role edge.Role) (*http.Request, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	who, err := h.operator(r.Context(), token)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sedge"`)
		return nil, err
	}
	if !who.Role.May(role) {
		return nil, &edge.Error{
			Code: edge.Forbidden, Message: fmt.Sprintf("%s is a %s, and this is for a %s", who.Name, who.Role, role),
			Hint: "ask with the token of another operator",
		}
	}
	return r.WithContext(context.WithValue(r.Context(), askerKey{}, who)), nil
}

// operator returns who has the token.
func (h *Hub) operator(ctx context.Context, token string) (asker, error) {
	hash := sha256.Sum256([]byte(token)) // of one length, whatever was sent
	want := sha256.Sum256([]byte(h.Token))
	if subtle.ConstantTimeCompare(hash[:], want[:]) == 1 {
		return asker{Operator: edge.Operator{Name: ownerName, Role: edge.Admin}}, nil
	}
	who, err := h.Ledger.OperatorOf(ctx, hash)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return asker{}, h.denied(token)
	case errors.Is(err, ledger.ErrExpired):
		return asker{}, &edge.Error{Code: edge.Denied, Message: "the token has expired", Hint: "have an admin make another: sedge operator create"}
	case err != nil:
		return asker{}, err
	}
	scope, err := selector.Parse(who.Scope)
	if err != nil {
		return asker{}, fmt.Errorf("scope of operator %s: %w", who.Name, err)
	}
	return asker{who, scope}, nil
}

func (h *Hub) denied(token string) error {
	e := &edge.Error{Code: edge.Denied, Message: "the token is wrong", Hint: "send a token of the hub as Authorization: Bearer TOKEN"}
	if token == "" {
		e.Message = "a token is needed"
	}
	if h.TokenFile != "" {
		e.Hint += "; its owner's is in " + h.TokenFile
	}
	return e
}
