package node

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// listen opens the listener of HTTP triggers. Beyond this machine it wants a
// token, for whoever reaches it can run functions.
func (n *Node) listen(o Options) error {
	if o.HTTPListen == "" || o.HTTPListen == "off" {
		return nil
	}
	if o.HTTPTokenFile != "" {
		data, err := os.ReadFile(o.HTTPTokenFile)
		if err != nil {
			return fmt.Errorf("read token of http triggers: %w", err)
		}
		if n.token = strings.TrimSpace(string(data)); n.token == "" {
			return &edge.Error{Code: edge.Invalid, Message: o.HTTPTokenFile + " holds no token", Hint: "write one: head -c 24 /dev/urandom | base64 > " + o.HTTPTokenFile}
		}
	}
	ln, err := Listen("http triggers", o.HTTPListen, "choose another: --http-listen 127.0.0.1:7789, or --http-listen off")
	if err != nil {
		return err
	}
	if a, ok := ln.Addr().(*net.TCPAddr); n.token == "" && (!ok || !a.IP.IsLoopback()) {
		ln.Close()
		return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("http triggers on %s could be set off by anyone who reaches this machine", o.HTTPListen), Hint: "give them a token: --http-token-file FILE"}
	}
	n.trigger = ln
	return nil
}

// serveTrigger serves HTTP triggers until ctx is done, and lets what is under
// way end, for a while.
func (n *Node) serveTrigger(ctx context.Context) error {
	srv := &http.Server{
		Handler:           n.guarded(n.Agent.Trigger()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(n.lg.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(n.trigger) }() // awaited below
	select {
	case err := <-served:
		return fmt.Errorf("serve http triggers: %w", err)
	case <-ctx.Done():
	}
	farewell, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	err := srv.Shutdown(farewell)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-served
	return err
}

// guarded asks for the token; without one, what asks must be of this machine.
func (n *Node) guarded(h http.Handler) http.Handler {
	if n.token == "" {
		return local(h)
	}
	want := []byte("Bearer " + n.token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintln(w, `{"error":{"code":"denied","message":"no token, or a wrong one"}}`)
			return
		}
		h.ServeHTTP(w, r)
	})
}
