// Package hub is the hub's HTTP API: definitions of functions are deployed,
// looked at and taken back here, nodes are let in and steered, and what they do is
// told. API.md beside this file has every path, request, answer and error.
//
// It promises that nothing is half done: what a node could not load is not
// recorded, what is recorded reaches every node that it is placed on; that only who
// shows a token is served, with what its role and scope allow, and the audit log
// knows; and that whatever is sent, the answer is JSON that says what was wrong.
// How definitions are kept it leaves to package ledger, how they reach nodes to
// package fleet.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/ledger"
)

// A Config is what a hub is made of.
type Config struct {
	Ledger    *ledger.Ledger
	Fleet     *fleet.Fleet
	CA        []byte              // the pin of the authority of the hub's certificate, if that is its own; else nil
	Hosts     []string            // names by which the hub is reached from elsewhere; none: only this machine is served
	Name      string              // of the node beside the hub, or ""
	Version   string              // the program's
	Token     string              // the owner's, who may do everything; "" for the one in TokenFile
	TokenFile string              // where that is kept; made if it is not there
	Metrics   http.Handler        // for /metrics; nil for none
	Checks    func() []edge.Check // for /readyz, beside the hub's; nil for none
	Logger    *slog.Logger
}

const (
	maxBody      = 2 << 20 // bytes
	maxHeader    = 16 << 10
	headerTime   = 5 * time.Second
	bodyTime     = 10 * time.Second
	idleTime     = time.Minute
	changeTime   = 90 * time.Second // for a deploy and the like, the function's start included
	answerTime   = 3 * time.Minute  // from header to the end of the answer; a stream has it for each line
	farewellTime = 5 * time.Second  // for what is under way when the hub ends
	maxStreams   = 64
)

// A Hub serves the API of one fleet.
type Hub struct {
	Config
	mux      *http.ServeMux
	bodyTime time.Duration
	changing chan struct{} // held by whoever changes definitions
	streams  chan struct{} // a place for each stream that is open
}

// New returns a hub. Its Handler or Serve may be used once.
func New(cfg Config) (*Hub, error) {
	if cfg.Token == "" {
		token, err := openToken(cfg.TokenFile, cfg.Logger)
		if err != nil {
			return nil, fmt.Errorf("open token: %w", err)
		}
		cfg.Token = token
	}
	h := &Hub{
		Config:   cfg,
		bodyTime: bodyTime,
		changing: make(chan struct{}, 1),
		streams:  make(chan struct{}, maxStreams),
	}
	h.mux = h.routed()
	return h, nil
}

// Serve answers on ln, which it closes, once the fleet knows its nodes: one that is not known
// yet must not be taken for one that there is not, nor a change for one that takes nothing away. It
// returns nil once ctx is done and what was under way has ended. Nodes are served on it
// too, at [link.Path].
func (h *Hub) Serve(ctx context.Context, ln net.Listener) error {
	if a, ok := ln.Addr().(*net.TCPAddr); len(h.Hosts) == 0 && (!ok || !a.IP.IsLoopback()) {
		ln.Close()
		return fmt.Errorf("serve API: %s is not a loopback address, and the API is for this machine only", ln.Addr())
	}
	if h.Fleet.Ready(ctx) != nil {
		ln.Close() // nobody has been answered
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	// What is under way when ctx ends is finished, but streams are cut.
	base := context.WithValue(context.WithoutCancel(ctx), servingKey{}, ctx)
	srv := &http.Server{
		Handler:                      h.Handler(),
		ReadHeaderTimeout:            headerTime,
		WriteTimeout:                 answerTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return base },
		ErrorLog:                     slog.NewLogLogger(h.Logger.Handler(), slog.LevelDebug),
	}
	group.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve API: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		h.farewell(srv)
		return nil
	})
	return group.Wait()
}

// farewell lets what is under way end, for a while.
func (h *Hub) farewell(srv *http.Server) {
	ctx, stop := context.WithTimeout(context.Background(), farewellTime)
	defer stop()
	if err := srv.Shutdown(ctx); err != nil {
		h.Logger.Warn("requests cut off", "err", err)
		srv.Close() // the listener is closed already, and the connections' errors tell nobody anything
	}
}

// servingKey is the key, in a request's context, of the context that ends when
// the hub does.
type servingKey struct{}
