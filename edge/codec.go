package edge

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrUnknown says that a message is of a kind that this program does not know: of a
// newer one, to be passed over and counted.
var ErrUnknown = errors.New("message of an unknown kind")

// made returns an empty message of each kind.
var made = map[Kind]func() Message{
	KindWhole:   func() Message { return new(Whole) },
	KindDelta:   func() Message { return new(Delta) },
	KindChunk:   func() Message { return new(Chunk) },
	KindCurrent: func() Message { return new(Current) },
	KindCall:    func() Message { return new(Call) },
	KindCancel:  func() Message { return new(Cancel) },
	KindAt:      func() Message { return new(At) },
	KindRefusal: func() Message { return new(Refusal) },
	KindFetch:   func() Message { return new(Fetch) },
	KindReport:  func() Message { return new(Report) },
	KindAnswer:  func() Message { return new(Answer) },

	KindUpgrade:      func() Message { return new(Upgrade) },
	KindUpgradeFetch: func() Message { return new(UpgradeFetch) },
	KindUpgradeChunk: func() Message { return new(UpgradeChunk) },
}

// An envelope is a message as it is sent.
type envelope struct {
	Kind Kind            `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Encode returns a message as it is sent: a JSON object of its kind and its body.
// The error names what cannot be sent: text that is not JSON, or more than MaxMessage.
// What a [Set] has made is encoded once; the result must not be changed.
func Encode(m Message) ([]byte, error) {
	if text := encoded(m); text != nil {
		return text, nil
	}
	body, err := json.Marshal(m)
	if err == nil {
		body, err = json.Marshal(envelope{m.Kind(), body})
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Kind(), err)
	}
	if len(body) > MaxMessage {
		return nil, fmt.Errorf("encode %s: %d bytes, at most %d are sent", m.Kind(), len(body), MaxMessage)
	}
	return body, nil
}

// encoded returns what a message of a set was encoded to, or nil.
func encoded(m Message) []byte {
	switch m := m.(type) {
	case *Whole:
		return m.text
	case *Delta:
		return m.text
	}
	return nil
}

// Decode reads a message. Fields that it does not know it passes over; of a kind that
// it does not know the error is [ErrUnknown].
func Decode(data []byte) (Message, error) {
	if len(data) > MaxMessage {
		return nil, fmt.Errorf("decode message: %d bytes, at most %d are read", len(data), MaxMessage)
	}
	var e envelope
	if err := decodeOne(data, &e); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	make, ok := made[e.Kind]
	if !ok {
		return nil, fmt.Errorf("decode message: %w: %.40q", ErrUnknown, e.Kind)
	}
	m := make()
	if len(e.Body) == 0 || e.Body[0] != '{' {
		return nil, fmt.Errorf("decode %s: the body is no object", e.Kind)
	}
	if err := decodeOne(e.Body, m); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Kind, err)
	}
	return m, nil
}

// decodeOne reads one JSON value and nothing behind it.
func decodeOne(data []byte, v any) error { return json.Unmarshal(data, v) }
