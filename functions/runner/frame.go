package runner

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Protocol is the version of the wire that this program speaks; runner and
// agent must speak the same one. What each step brought:
//
//	1  2026-11-23  the beginning
const Protocol = 1

// MaxFrame is the longest frame, bytes, without its length prefix.
const MaxFrame = 4 << 20

// A kind says what a frame is. Numbers are never used again.
type kind byte

const (
	kindHello  kind = 1
	kindLoad   kind = 2
	kindLoaded kind = 3
	kindInvoke kind = 4
	kindOp     kind = 5
	kindAnswer kind = 6
	kindDone   kind = 7
	kindLog    kind = 8
)

const (
	lengthSize = 4
	headerSize = 5 // kind and id

	smallBuffer = 16 << 10
)

// errTooLong is returned for a frame over [MaxFrame], or too short to be one.
var errTooLong = errors.New("frame length out of bounds")

// A frame is one message. Its body belongs to the reader and holds until the
// next one is read.
type frame struct {
	kind kind
	id   uint32
	body []byte
}

// beginFrame appends the head of a frame; endFrame, given where it began,
// completes it once the body has been appended.
func beginFrame(b []byte, k kind, id uint32) (_ []byte, begin int) {
	begin = len(b)
	b = append(b, 0, 0, 0, 0, byte(k))
	return binary.LittleEndian.AppendUint32(b, id), begin
}

func endFrame(b []byte, begin int) []byte {
	binary.LittleEndian.PutUint32(b[begin:], uint32(len(b)-begin-lengthSize))
	return b
}

// frameTooLong reports whether the frame that begins there is over the limit.
func frameTooLong(b []byte, begin int) bool { return len(b)-begin-lengthSize > MaxFrame }

// A frameReader cuts a stream into frames. Its buffer grows with what has come,
// not with what was announced.
type frameReader struct {
	src        io.Reader
	buf        []byte
	start, end int // what has come and was not handed out
}

func newFrameReader(src io.Reader) *frameReader {
	return &frameReader{src: src, buf: make([]byte, smallBuffer)}
}

// next returns the next frame. The error is io.EOF only between frames.
func (r *frameReader) next() (frame, error) {
	if err := r.fill(lengthSize); err != nil {
		return frame{}, err
	}
	n := int64(binary.LittleEndian.Uint32(r.buf[r.start:]))
	if n < headerSize || n > MaxFrame {
		return frame{}, fmt.Errorf("%w: %d bytes", errTooLong, n)
	}
	if err := r.fill(lengthSize + int(n)); err != nil {
		return frame{}, unexpected(err)
	}
	b := r.buf[r.start+lengthSize : r.start+lengthSize+int(n)]
	r.start += lengthSize + int(n)
	return frame{kind: kind(b[0]), id: binary.LittleEndian.Uint32(b[1:]), body: b[headerSize:]}, nil
}

// fill reads until n bytes are there.
func (r *frameReader) fill(n int) error {
	for r.end-r.start < n {
		r.makeRoom(n)
		m, err := r.src.Read(r.buf[r.end:])
		r.end += m
		if err != nil && r.end-r.start < n {
			if r.end > r.start {
				return unexpected(err)
			}
			return err
		}
	}
	return nil
}

// makeRoom moves what is there to the front, and grows the buffer if it is full
// of one frame's beginning. An empty buffer that had grown is given back.
func (r *frameReader) makeRoom(n int) {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > smallBuffer {
			r.buf = make([]byte, smallBuffer)
		}
		return
	}
	if r.start+n <= len(r.buf) && r.end < len(r.buf) {
		return
	}
	to := r.buf
	if r.end-r.start == len(r.buf) {
		to = make([]byte, min(2*len(r.buf), lengthSize+MaxFrame))
	}
	r.end = copy(to, r.buf[r.start:r.end])
	r.start, r.buf = 0, to
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
