package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// An API is a client of the node's API server, with all rights. It may be used
// concurrently.
type API struct {
	url    string
	client *http.Client
}

// API returns a client for this host.
func (n *Node) API() (*API, error) { return newAPI(n.URL, n.PKI) }

func newAPI(url, pki string) (*API, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.crt"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("ca.crt holds no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots}}
	return &API{url: url, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}, nil
}

// A Refusal is an answer other than 2xx.
type Refusal struct {
	Status int
	Text   string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Text) }

// Do sends a request and returns the body of the answer, at most 16 MiB. An
// answer other than 2xx is a *Refusal.
func (a *API) Do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	answer, err := a.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %w", method, path, &Refusal{answer.StatusCode, string(text)})
	}
	return text, err
}

// answers returns nil once the server is ready to serve.
func (a *API) answers(ctx context.Context) error {
	_, err := a.Do(ctx, http.MethodGet, "/readyz", nil)
	return err
}

// ready returns nil once the node says that it is, later than since: what it
// said before it was switched off would still stand.
func (a *API) ready(ctx context.Context, name string, since time.Time) error {
	text, err := a.Do(ctx, http.MethodGet, "/api/v1/nodes/"+name, nil)
	if err != nil {
		return err
	}
	var node struct {
		Status struct {
			Conditions []struct {
				Type, Status, Message string
				LastHeartbeatTime     time.Time // whole seconds
			}
		}
	}
	if err := json.Unmarshal(text, &node); err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		switch {
		case c.Type != "Ready":
		case c.LastHeartbeatTime.Before(since.Truncate(time.Second)):
			return errors.New("the kubelet has not spoken yet")
		case c.Status != "True":
			return errors.New(c.Message)
		default:
			return nil
		}
	}
	return errors.New("the node has no condition Ready")
}

// hopeless is an error that waiting does not mend.
type hopeless struct{ error }

// await calls ask again and again until it returns nil or something hopeless,
// and fails with its last error when ctx ends.
func await(ctx context.Context, what string, ask func(context.Context) error) error {
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[hopeless](err); ok {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
