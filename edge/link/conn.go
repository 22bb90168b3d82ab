package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
)

const (
	silence   = edge.BeatTime * 5 / 2 // after which a session ends
	writeTime = 20 * time.Second      // for one message to be taken by the network
	parting   = time.Second           // between the wish to close and the closed socket
	queueMax  = 4 << 20               // bytes that wait to be sent
	entryCost = 64                    // bytes that each of them counts more than it has
	reasonMax = 123                   // bytes of a reason, by RFC 6455
	sealedMax = edge.MaxMessage + overhead
)

// frames holds buffers for messages that are being sealed or opened.
var frames = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// A Conn is one sealed session. [Conn.Serve] is called once; everything else may be
// called from several goroutines, and from within the function given to Serve.
//
// It has no goroutine of its own but while something waits to be sent.
type Conn struct {
	ws       *websocket.Conn
	in, out  *stream // read by Serve; written by write
	protocol int

	mu      sync.Mutex
	queue   [][]byte    // guarded by mu; what waits to be sent
	queued  int         // guarded by mu; bytes
	writing bool        // guarded by mu; there is a goroutine in write
	failed  error       // guarded by mu; of writing: why may still be read
	ended   *ending     // guarded by mu; nil while the session lasts
	deadman *time.Timer // set with failed or ended; closes the socket when parting is over
	writer  sync.WaitGroup
}

// An ending says why a session has ended, and what the other side is told.
type ending struct {
	err  error // nil if this side wanted it
	code int   // 0: nothing is told
	text string
}

// Protocol returns the number of the protocol that both sides have settled on.
func (c *Conn) Protocol() int { return c.protocol }

// Send queues a message and does not wait. The slice must not be changed any more, and
// may be sent over other links too: it is not copied. A message that no longer finds
// room, since the other side does not take those before it, ends the session, and the
// error is [ErrSlow]. After the end of the session the error is [ErrClosed].
func (c *Conn) Send(data []byte) error {
	if len(data) > edge.MaxMessage {
		return fmt.Errorf("send %d bytes: a message has at most %d", len(data), edge.MaxMessage)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil || c.failed != nil {
		return ErrClosed
	}
	if c.queued+len(data)+entryCost > queueMax {
		c.endLocked(ending{ErrSlow, websocket.ClosePolicyViolation, "too slow"})
		return ErrSlow
	}
	c.queue = append(c.queue, data)
	c.queued += len(data) + entryCost
	c.writeLocked()
	return nil
}

// Close ends the session and does not wait. The reason, of which at most 123 bytes are
// sent, is told to the other side if that still takes anything; what is queued is not sent.
// Serve returns nil, and hands nothing on that it has not already. A second Close does nothing.
func (c *Conn) Close(reason string) {
	c.end(ending{nil, websocket.CloseNormalClosure, reason})
}

// Serve hands each message to handle as it comes, one after another, until the session
// ends, and then returns why: nil if that was by Close or the end of ctx. An error of
// handle ends the session and is told to the other side. The slice is handle's only
// during the call. Nothing of the session is left running when Serve returns.
func (c *Conn) Serve(ctx context.Context, handle func(data []byte) error) error {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() {
			c.end(ending{nil, websocket.CloseGoingAway, "going away"})
		})()
	}
	for {
		if err := c.receive(handle); err != nil {
			c.end(*err)
			break
		}
	}
	e := c.over()
	if e.code != 0 {
		c.drain()
	}
	c.writer.Wait()
	c.deadman.Stop()
	c.ws.Close() // the reason for the end is known already
	return e.err
}

// over returns the ending, or nil while the session lasts. After it deadman is set.
func (c *Conn) over() *ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// receive reads one message and has it handled. It returns how the session is to end,
// or nil if it goes on.
func (c *Conn) receive(handle func([]byte) error) *ending {
	if err := c.ws.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return &ending{err: err}
	}
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return lost(err)
	}
	if kind != websocket.BinaryMessage {
		return &ending{errors.New("the other side sent text"), websocket.CloseUnsupportedData, "only binary messages are sealed"}
	}
	buf := frames.Get().(*bytes.Buffer)
	defer frames.Put(buf)
	buf.Reset()
	if _, err := buf.ReadFrom(r); err != nil {
		return lost(err)
	}
	plain, err := c.in.open(buf.Bytes())
	if err != nil {
		return &ending{err, websocket.CloseProtocolError, "a message cannot be opened"}
	}
	if e := c.over(); e != nil {
		return e // nothing is handed on any more
	}
	if err := handle(plain); err != nil {
		return &ending{err, websocket.CloseProtocolError, err.Error()}
	}
	return nil
}

// lost says what an error of reading means. What it would have the other side told,
// gorilla has told already, but for silence; then no more is sent.
func lost(err error) *ending {
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		return &ending{err: &Left{Code: e.Code, Reason: e.Text}}
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return &ending{ErrSilent, websocket.CloseGoingAway, "silence"}
	} else if ok || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return &ending{err: fmt.Errorf("read from the link: %w", err)}
	}
	if errors.Is(err, websocket.ErrReadLimit) {
		return &ending{errors.New("the other side sent too large a message"), websocket.CloseMessageTooBig, "too large"}
	}
	return &ending{fmt.Errorf("read from the link: %w", err), websocket.CloseProtocolError, "no websocket"}
}

// drain reads past what still comes, so that the kernel does not answer it with a reset
// that would overtake the reason. It ends with the socket, parting at the latest.
func (c *Conn) drain() {
	io.Copy(io.Discard, c.ws.NetConn()) // ends in an error, as it should
}

func (c *Conn) end(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(e)
}

func (c *Conn) endLocked(e ending) {
	if c.ended != nil {
		return
	}
	c.stopLocked()
	if c.failed != nil {
		e.code = 0 // nothing can be told
		if left, ok := errors.AsType[*Left](e.err); e.err != nil && (!ok || left.Code == websocket.CloseAbnormalClosure) {
			e.err = c.failed // came first
		}
	}
	c.ended = &e
	if e.code != 0 {
		c.writeLocked()
	}
}

// fail says that nothing can be written any more. The other side may have said why: what
// it has sent is read until parting is over.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopLocked()
	c.failed = fmt.Errorf("write to the link: %w", err)
}

// stopLocked drops what waits, and sees to it that the socket is closed soon.
func (c *Conn) stopLocked() {
	c.queue, c.queued = nil, 0
	if c.deadman == nil {
		c.deadman = time.AfterFunc(parting, func() { c.ws.Close() })
	}
}

// writeLocked has somebody look after what is to be sent.
func (c *Conn) writeLocked() {
	if !c.writing {
		c.writing = true
		c.writer.Go(c.write) // Serve waits
	}
}

// write sends what waits, and the end.
func (c *Conn) write() {
	for {
		data, end, more := c.next()
		if end != nil {
			part(c.ws, end.code, end.text)
		}
		if !more {
			return
		}
		if err := c.put(data); err != nil {
			c.fail(err)
			return // writing stays true: nothing can come after it
		}
	}
}

// next takes the first of what waits. Without more there is no writer any longer, or,
// with an end to tell, never one again.
func (c *Conn) next() (data []byte, end *ending, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil && c.ended.code != 0 {
		return nil, c.ended, false // writing stays true: nothing comes after it
	}
	if len(c.queue) == 0 {
		c.queue, c.writing = nil, false
		return nil, nil, false
	}
	data, c.queue[0] = c.queue[0], nil // or the array would keep it
	c.queue = c.queue[1:]
	c.queued -= len(data) + entryCost
	return data, nil, true
}

// put seals a message and writes it.
func (c *Conn) put(data []byte) error {
	buf := frames.Get().(*bytes.Buffer)
	defer frames.Put(buf)
	buf.Reset()
	buf.Grow(len(data) + overhead)
	if err := c.ws.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	return c.ws.WriteMessage(websocket.BinaryMessage, c.out.seal(buf.AvailableBuffer(), data))
}

// part tells the other side why, and that nothing follows. It does not matter whether
// that arrives.
func part(ws *websocket.Conn, code int, text string) {
	text = strings.ToValidUTF8(text[:min(len(text), reasonMax)], "")
	ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(parting))
	if half, ok := ws.NetConn().(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}
