package runner

import (
	"io"
	"sync"
	"syscall"
)

// maxWaiting is how much may wait to be written, bytes, before a writer takes no more.
const maxWaiting = 8 << 20

// A writer combines frames: whoever finds nobody writing writes at once, until
// nothing waits; the others only append. If conn can be written without
// blocking, that is done, and what would block is left to flush. It may be used
// from several goroutines.
type writer struct {
	conn io.Writer
	try  func(p []byte) (int, error) // writes what does not block; nil: a write to conn may block

	mu      sync.Mutex
	room    sync.Cond   // less waits, or err is set
	waiting []byte      // frames; guarded by mu
	spare   []byte      // the buffer that waiting is swapped with; guarded by mu
	writing bool        // somebody writes; guarded by mu
	err     error       // the first; guarded by mu
	stuck   chan []byte // what would block, for flush
}

// newWriter returns a writer that blocks.
func newWriter(conn io.Writer) *writer {
	w := &writer{conn: conn, stuck: make(chan []byte, 1)}
	w.room.L = &w.mu
	return w
}

// newPromptWriter returns a writer whose frames never block who sends them; its
// flush must run.
func newPromptWriter(conn io.Writer) *writer {
	w := newWriter(conn)
	w.try = func([]byte) (int, error) { return 0, nil }
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return w // everything goes through flush
	}
	if raw, err := sc.SyscallConn(); err == nil {
		w.try = (&prompt{raw: raw}).write
	}
	return w
}

// start locks the writer for frames to be appended to waiting, which send then
// writes. With wait it first waits for room; otherwise it returns false, with
// the writer not locked, if there is none.
func (w *writer) start(wait bool) bool {
	w.mu.Lock()
	for wait && len(w.waiting) > maxWaiting && w.err == nil {
		w.room.Wait()
	}
	if w.err != nil || len(w.waiting) > maxWaiting {
		w.mu.Unlock()
		return false
	}
	return true
}

// send ends what start began.
func (w *writer) send() {
	if !w.writing {
		w.writeLocked()
	}
	w.mu.Unlock()
}

// writeLocked writes until nothing waits, or the rest is left to flush.
func (w *writer) writeLocked() {
	w.writing = true
	for len(w.waiting) > 0 && w.err == nil {
		out := w.waiting
		w.waiting, w.spare = w.spare[:0], nil
		w.mu.Unlock()
		n, err := w.write(out)
		w.mu.Lock()
		w.failLocked(err)
		if n < len(out) && err == nil {
			w.stuck <- out[n:] // cannot block: only who writes sends, and flush is who writes next
			return
		}
		w.takeBackLocked(out)
	}
	w.writing = false
	w.room.Broadcast()
}

func (w *writer) write(p []byte) (int, error) {
	if w.try != nil {
		return w.try(p)
	}
	return w.conn.Write(p)
}

// takeBackLocked keeps a buffer for later, unless it has grown large.
func (w *writer) takeBackLocked(b []byte) {
	if cap(b) <= 4*smallBuffer {
		w.spare = b[:0]
	}
}

func (w *writer) failLocked(err error) {
	if err != nil && w.err == nil {
		w.err, w.waiting = err, nil
		w.room.Broadcast()
	}
}

// fail makes the writer refuse all that follows.
func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(err)
}

// flush writes what would have blocked, until done is closed.
func (w *writer) flush(done <-chan struct{}) {
	for {
		select {
		case rest := <-w.stuck:
			_, err := w.conn.Write(rest)
			w.mu.Lock()
			w.failLocked(err)
			w.writeLocked()
			w.mu.Unlock()
		case <-done:
			return
		}
	}
}

// A prompt writes to a socket without blocking.
type prompt struct {
	raw syscall.RawConn
	p   []byte
	n   int
	err error
}

// write returns how much could be written at once. Who writes is alone.
func (s *prompt) write(p []byte) (int, error) {
	s.p, s.n, s.err = p, 0, nil
	if err := s.raw.Write(s.once); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// once always claims to be done, so that nothing waits for the socket.
func (s *prompt) once(fd uintptr) bool {
	for len(s.p) > s.n {
		n, err := syscall.Write(int(fd), s.p[s.n:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			s.err = err
			return true
		}
		s.n += n
	}
	return true
}
