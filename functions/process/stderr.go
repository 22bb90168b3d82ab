package process

import (
	"strings"
	"sync"
)

// A head keeps the beginning of what is written to it: of a Go program that
// dies, the line that says why.
type head struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

const headSize = 4 << 10

// Write keeps what fits and takes the rest.
func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p[:min(len(p), headSize-len(h.b))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.ToValidUTF8(string(h.b), "\uFFFD")
}

func (h *head) firstLine() string {
	line, _, _ := strings.Cut(strings.TrimSpace(h.String()), "\n")
	return line
}

func (h *head) outOfMemory() bool {
	s := h.String()
	return strings.Contains(s, "out of memory") || strings.Contains(s, "cannot allocate memory")
}

// crashed reports whether Go itself broke, which it does when it is refused
// memory for its own needs; with cgo, that may be for a thread.
func (h *head) crashed() bool {
	s := h.String()
	return strings.HasPrefix(s, "SIGSEGV") || strings.HasPrefix(s, "runtime/cgo: pthread_create failed")
}
