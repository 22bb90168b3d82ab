package mqtt

import (
	"errors"
	"slices"
	"time"
)

// A Status is what a client knows of itself at one moment.
type Status struct {
	In, Out    Link
	Subscribed bool     // the broker has answered for every filter that is wanted
	Live       bool     // what was queued while away is through: the canary came back
	Received   int64    // messages handed on
	Truncated  int64    // of them, those that were over a limit
	Malformed  int64    // connections closed for a packet that MQTT forbids
	Refused    []string // wanted filters that the broker will not give, sorted
	Paused     bool
}

// Connected reports whether both connections are up.
func (s Status) Connected() bool { return s.In.Connected && s.Out.Connected }

// A Link is the state of one connection.
type Link struct {
	Connected  bool
	Since      time.Time // of the latest change of Connected; zero if there was none
	Reconnects int       // connections after the first
	LastError  string    // what the latest attempt or connection ended with, or ""
}

// Status returns how the client stands.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Received, s.Truncated, s.Malformed = c.received.Load(), c.truncated.Load(), c.malformed.Load()
	s.Refused = slices.Clone(c.refused)
	s.Paused = c.paused
	s.Subscribed = s.In.Connected && c.answered
	s.Live = s.In.Connected && c.live.Load()
	return s
}

func (c *Client) connected(name string, s *Link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Since.IsZero() {
		s.Reconnects++
	}
	s.Connected, s.Since, s.LastError = true, time.Now(), ""
	c.config.Logger.Info("broker connected", "link", name, "broker", c.to.address, "reconnects", s.Reconnects)
}

// disconnected notes how a connection, or the attempt at one, ended. The same
// failure is logged once, until a connection comes between.
func (c *Client) disconnected(name string, s *Link, err error) {
	if errors.Is(err, errMalformed) {
		c.malformed.Add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Connected {
		s.Connected, s.Since = false, time.Now()
	}
	if err == nil {
		return
	}
	if s.LastError != err.Error() {
		c.config.Logger.Warn("broker away", "link", name, "broker", c.to.address, "err", err)
	}
	s.LastError = err.Error()
}
