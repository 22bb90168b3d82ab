package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

// JoinOptions are what a node says of itself when it joins, each may be left out.
type JoinOptions struct {
	Name    string // that it would like to have
	Labels  map[string]string
	Version string
	Extra   []byte                                                               // certificates of authorities besides, PEM: see link.Trust
	Clock   func() link.Clock                                                    // nil: the machine's, which is not trusted
	Waits   func(why string)                                                     // told when it has to wait, and for what; or nil
	Net     func(ctx context.Context, network, address string) (net.Conn, error) // makes the connections; nil for TCP
}

// Join makes the node of the home dir a member of the hub at that URL, like
// wss://hub.example.org, by an invitation. The node's key is made there; the secret of
// the invitation goes only to the hub that has the key which the invitation names. It
// waits while the hub cannot be reached or an operator has yet to approve, until ctx is
// done, and writes down who the hub is once it is admitted. After a power cut it may be
// run again with the same invitation.
//
// An *edge.Error says what trying again does not mend.
func Join(ctx context.Context, dir, hub string, v edge.Invitation, o JoinOptions) (Hub, error) {
	address, err := linkURL(hub)
	if err != nil {
		return Hub{}, err
	}
	h, err := openHome(dir)
	if err != nil {
		return Hub{}, fmt.Errorf("open %s: %w", dir, err)
	}
	switch {
	case h.hub.URL != "" && bytes.Equal(h.hub.Key, v.HubKey):
		return h.hub, nil
	case h.hub.URL != "":
		return Hub{}, &edge.Error{
			Code: edge.Conflict, Message: "this node belongs to another hub: " + h.hub.URL,
			Hint: "leave it first: sedge-agent leave, and on the hub: sedge node remove " + h.hub.Name,
		}
	}
	d := &link.Dialer{URL: address, Hub: v.HubKey, Key: h.key, Trust: link.Trust{Pin: v.CA, Extra: o.Extra}, Net: o.Net}
	verdict, err := h.ask(ctx, d, edge.Proof{
		Name: o.Name, Version: o.Version, Platform: platform(), Labels: o.Labels,
		Join: &edge.Join{Token: v.Token, Secret: v.Secret},
	}, o)
	if err != nil {
		return Hub{}, err
	}
	h.hub = Hub{URL: address, Key: v.HubKey, CA: v.CA, ID: verdict.ID, Name: verdict.Name}
	if err := h.write(hubFile, h.hub); err != nil {
		return Hub{}, fmt.Errorf("write down who the hub is: %w", err)
	}
	return h.hub, nil
}

// Leave forgets the hub of the home dir. The key stays: the hub knows the node again
// if it comes back.
func Leave(dir string) error {
	h, err := OpenHome(dir)
	if err != nil {
		return err
	}
	return errors.Join(h.remove(hubFile), h.remove(awayFile))
}

// approvalTime is how often a node asks whether it has been approved, unless the hub
// says otherwise.
const approvalTime = 5 * time.Second

// ask dials until the hub admits the node.
func (h *Home) ask(ctx context.Context, d *link.Dialer, proof edge.Proof, o JoinOptions) (edge.Verdict, error) {
	var backoff link.Backoff
	for {
		var err error
		if proof.Counter, err = h.nextDial(); err != nil {
			return edge.Verdict{}, err
		}
		clock := link.Clock{Now: time.Now(), Floor: h.floor()}
		if o.Clock != nil {
			clock = o.Clock()
		}
		conn, reply, err := d.Dial(ctx, clock, proof)
		if err == nil {
			conn.Close("joined")
			conn.Serve(ctx, func([]byte) error { return nil }) // what the hub says is for the member
			return reply.Verdict, h.passed(reply.Time)
		}
		if ctx.Err() != nil {
			return edge.Verdict{}, ctx.Err()
		}
		wait := max(link.RetryAfter(err), approvalTime)
		if refused, ok := errors.AsType[*link.Refused](err); !ok || !refused.Verdict.Waiting {
			if fatal := hopeless(err); fatal != nil {
				return edge.Verdict{}, fatal
			}
			wait = backoff.Next(0, link.RetryAfter(err))
		}
		if o.Waits != nil {
			o.Waits(err.Error())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return edge.Verdict{}, ctx.Err()
		}
	}
}

// hopeless returns what to tell if dialling again does not help, or nil.
func hopeless(err error) *edge.Error {
	if refused, ok := errors.AsType[*link.Refused](err); ok {
		return &edge.Error{Code: refused.Verdict.Code, Message: refused.Error(), Hint: "ask for another join token: sedge token create"}
	}
	if old, ok := errors.AsType[*link.Incompatible](err); ok {
		return &edge.Error{Code: edge.Invalid, Message: old.Error()}
	}
	for sentinel, hint := range map[error]string{
		link.ErrWrongCA:   "a proxy that opens TLS? give its authority: --hub-ca FILE. Nothing secret was said",
		link.ErrWrongName: "use the name that the hub has: its operator knows",
		link.ErrWrongHub:  "the token is of another hub, or somebody is in between. Nothing secret was said",
	} {
		if errors.Is(err, sentinel) {
			return &edge.Error{Code: edge.Denied, Message: err.Error(), Hint: hint}
		}
	}
	return nil
}

// linkURL returns where the link of the hub at that URL is.
func linkURL(hub string) (string, error) {
	u, err := url.Parse(hub)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Path != "" && u.Path != "/" && u.Path != link.Path {
		return "", &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("%q is no hub's URL", hub), Hint: "like wss://hub.example.org"}
	}
	switch u.Scheme {
	case "https":
		u.Scheme = "wss"
	case "http":
		u.Scheme = "ws"
	}
	u.Path = link.Path
	return u.String(), nil
}

// platform is like linux/arm64.
func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }
