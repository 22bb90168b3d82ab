package javascript

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// An overlay is the function's state as this run sees it: what it wrote hides
// what is stored, and what it read stays as it was.
type overlay struct {
	known map[string][]byte  // JSON by key; nil: not there
	sums  map[string]float64 // added to keys that are not known
}

func (s *overlay) learn(key string, value []byte) {
	if s.known == nil {
		s.known = map[string][]byte{}
	}
	s.known[key] = value
}

// get returns a key's value, or nil.
func (s *overlay) get(h runner.Host, key string) ([]byte, error) {
	if v, ok := s.known[key]; ok {
		return v, nil
	}
	v, err := h.Get(key)
	if err != nil {
		return nil, err
	}
	if by, added := s.sums[key]; added {
		n, err := number(v, key)
		if err != nil {
			return nil, err
		}
		v = formatNumber(n + by)
		delete(s.sums, key)
	}
	s.learn(key, v)
	return v, nil
}

// incr returns what the key is after by was added to it.
func (s *overlay) incr(h runner.Host, key string, by float64) (float64, error) {
	v, known := s.known[key]
	if !known {
		var err error
		if v, err = h.Peek(key); err != nil {
			return 0, err
		}
	}
	n, err := number(v, key)
	if err != nil {
		return 0, err
	}
	if known {
		s.known[key] = formatNumber(n + by)
		return n + by, nil
	}
	if s.sums == nil {
		s.sums = map[string]float64{}
	}
	s.sums[key] += by
	return n + s.sums[key], nil
}

// set hides what is stored; nil deletes.
func (s *overlay) set(key string, value []byte) {
	delete(s.sums, key)
	s.learn(key, value)
}

func number(v []byte, key string) (float64, error) {
	if v == nil {
		return 0, nil
	}
	var n float64
	if json.Unmarshal(v, &n) != nil {
		return 0, fmt.Errorf("state %q is no number: %.40s", key, v)
	}
	return n, nil
}

func formatNumber(n float64) []byte { return strconv.AppendFloat(nil, n, 'g', -1, 64) }

func checkKey(key string) error {
	switch {
	case key == "":
		return errors.New("state: the key is empty")
	case len(key) > functions.MaxStateKey:
		return fmt.Errorf("state: the key is over %d bytes", functions.MaxStateKey)
	}
	return nil
}

func checkValue(key string, value []byte) error {
	switch {
	case value == nil:
		return fmt.Errorf("state %q: undefined is no value; use delete", key)
	case len(value) > functions.MaxStateValue:
		return fmt.Errorf("state %q: %d bytes of JSON are over %d", key, len(value), functions.MaxStateValue)
	}
	return nil
}

func checkBy(by float64) error {
	if math.IsNaN(by) || math.IsInf(by, 0) {
		return errors.New("state: incr needs a finite number")
	}
	return nil
}
