package kube

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// The annotations of an election's lease.
const (
	clientAnnotation     = "sedge.dev/mqtt-client"     // the client id of the session
	generationAnnotation = "sedge.dev/mqtt-generation" // how often the broker had not kept it
	heldAnnotation       = "sedge.dev/mqtt-filters"    // what it holds, a JSON object; "": not known
)

// maxHeld is the most that the session's filters may take of a lease, bytes. Of all
// its annotations the API server takes four times that.
const maxHeld = 64 << 10

// Client returns the client id of the cluster's session at the broker: the same for
// every candidate, for as long as there is the lease. It is "" until that was seen.
func (e *Election) Client() string { return e.annotation(clientAnnotation) }

func (e *Election) annotation(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease == nil {
		return ""
	}
	return e.lease.Metadata.Annotations[name]
}

// Generation returns the name of the broker's session, for who leads: another one
// if the broker has not kept it. It returns when the lease says so, or "" if that
// cannot be brought about within a third of its duration.
func (e *Election) Generation(kept bool) string {
	if !kept {
		e.change(func(d *draft) { d.raise++ })
	}
	if !e.settle() {
		return ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease == nil {
		return ""
	}
	uid, _, _ := strings.Cut(e.lease.Metadata.UID, "-")
	return fmt.Sprintf("%s-%d", uid, generation(e.lease.Metadata.Annotations))
}

// generation is 0 if nobody has written one.
func generation(annotations map[string]string) int {
	n, err := strconv.Atoi(annotations[generationAnnotation])
	if err != nil {
		return 0
	}
	return n
}

// Held returns what Hold was last given, by whichever candidate, or nil if that is
// not known.
func (e *Election) Held() (held map[string]bool) {
	if json.Unmarshal([]byte(e.annotation(heldAnnotation)), &held) != nil {
		return nil
	}
	return held
}

// Hold notes in the lease which filters the session holds, for who leads. It
// returns when the lease says so, or after a third of its duration; then the next
// renewal tries again. Filters beyond 64 KiB are not noted: who leads next will not
// know what the session holds.
func (e *Election) Hold(held map[string]bool) {
	text, err := json.Marshal(held)
	if err != nil || len(text) > maxHeld {
		e.cfg.Logger.Warn("the cluster has too many subscriptions to note them: they are made anew by who leads next", "bytes", len(text), "most", maxHeld)
		text = nil
	}
	is := string(text)
	e.change(func(d *draft) { d.held = &is })
	if !e.settle() {
		e.cfg.Logger.Warn("the cluster's subscriptions are not noted yet", "lease", e.cfg.Name)
	}
}

// change drafts a change of the session. Who does not lead has none to make.
func (e *Election) change(what func(*draft)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stage != standing {
		what(&e.draft)
	}
}

// settle has what is drafted written, and reports whether that is done. It waits
// for no longer than a renewal's time, nor for a lease that is being given up.
func (e *Election) settle() bool {
	late := time.After(e.renewal())
	for {
		e.mu.Lock()
		written, leads, changed := e.draft == draft{}, e.stage == leading, e.changed
		e.mu.Unlock()
		if written || !leads {
			return written
		}
		select {
		case e.kick <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-late:
			return false
		}
	}
}

// A draft is what is to be changed about the session, and has not been written yet.
type draft struct {
	raise int     // by how much its generation is to rise
	held  *string // what it is to hold, as in the annotation; nil: what it does
}

// apply returns the annotations of a lease with the change made. A lease without a
// session gets one.
func (d draft) apply(to map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, to)
	if all[clientAnnotation] == "" {
		all[clientAnnotation] = "sedge-cluster-" + rand.Text()[:8]
	}
	all[generationAnnotation] = strconv.Itoa(generation(to) + d.raise)
	if d.held != nil {
		all[heldAnnotation] = *d.held
	}
	return all
}

// without returns what is left to be written when that was.
func (d draft) without(written draft) draft {
	d.raise -= written.raise
	if d.held == written.held {
		d.held = nil
	}
	return d
}
