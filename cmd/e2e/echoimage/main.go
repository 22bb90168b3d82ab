// Command echoimage is what the tests run as a function of the runtime image: a
// service that answers events over HTTP on $PORT, packed by arm/image. It answers
// with what it was sent, and misbehaves as the event's payload asks:
//
//	{"status": 503}   answers so, with the payload as ever
//	{"sleep": "2s"}   answers after that time
//	{"crash": true}   ends the process with status 3, without an answer
//
// SEDGE_ECHO_AFTER, a time, is how long it waits before it listens at all.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxPayload is the most that it reads of an event, in bytes.
const maxPayload = 1 << 20

// wish is what a payload may ask for.
type wish struct {
	Status int    `json:"status"`
	Sleep  string `json:"sleep"`
	Crash  bool   `json:"crash"`
}

// answer is what it says to an event.
type answer struct {
	Attributes map[string]string `json:"attributes"` // of the CloudEvent, without ce-
	Payload    json.RawMessage   `json:"payload"`    // as it came
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	if after := os.Getenv("SEDGE_ECHO_AFTER"); after != "" {
		d, err := time.ParseDuration(after)
		if err != nil {
			return fmt.Errorf("read SEDGE_ECHO_AFTER: %w", err)
		}
		time.Sleep(d)
	}
	server := http.Server{
		Addr:              net.JoinHostPort("", os.Getenv("PORT")),
		Handler:           http.HandlerFunc(echo),
		ReadHeaderTimeout: 10 * time.Second,
	}
	return server.ListenAndServe()
}

func echo(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "events are posted", http.StatusMethodNotAllowed)
		return
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	said := answer{Attributes: map[string]string{}, Payload: payload}
	for key := range r.Header {
		if name, ok := strings.CutPrefix(strings.ToLower(key), "ce-"); ok {
			said.Attributes[name] = r.Header.Get(key)
		}
	}
	var wants wish
	if !json.Valid(payload) {
		said.Payload, _ = json.Marshal(string(payload)) // a string always can
	} else if json.Unmarshal(payload, &wants) != nil {
		wants = wish{} // JSON that asks for nothing, like a number
	}
	fulfil(w, r, wants)
	json.NewEncoder(w).Encode(said) // a caller that left needs no answer
}

// fulfil does what the event asks for, up to the header of the answer.
func fulfil(w http.ResponseWriter, r *http.Request, wants wish) {
	if wants.Crash {
		os.Exit(3)
	}
	if d, err := time.ParseDuration(wants.Sleep); err == nil {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if 200 <= wants.Status && wants.Status <= 599 {
		w.WriteHeader(wants.Status)
	}
}
