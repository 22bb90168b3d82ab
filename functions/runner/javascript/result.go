package javascript

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// result returns what the handler returned, as JSON; nil for undefined.
func (c *place) result(v sobek.Value) ([]byte, error) {
	b, err := c.stringify(v)
	if err != nil {
		f := c.explain(err)
		if f.Code == functions.CodeThrown {
			f.Code = functions.CodeResult
			f.Message = cut("returned value has no JSON: "+f.Message, runner.MaxMessage)
		}
		return nil, f
	}
	if len(b)+c.effects.weight > functions.MaxResult {
		return nil, &functions.Failure{Code: functions.CodeResult, Message: fmt.Sprintf("returned value and effects are over %d bytes", functions.MaxResult)}
	}
	return b, nil
}

// stringify returns the JSON of a value, or nil if it has none, like undefined,
// a function and a symbol.
func (c *place) stringify(v sobek.Value) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case *sobek.Object:
		return c.stringifyObject(v)
	case sobek.String:
		if v.Length() > functions.MaxResult {
			return nil, errors.New("string is too long")
		}
		return quote(v.String())
	case *sobek.Symbol:
		return nil, nil
	}
	switch {
	case sobek.IsUndefined(v):
		return nil, nil
	case sobek.IsNull(v):
		return []byte("null"), nil
	case sobek.IsBigInt(v):
		return nil, errors.New("a BigInt has no JSON")
	case sobek.IsNumber(v):
		if f := v.ToFloat(); math.IsNaN(f) || math.IsInf(f, 0) {
			return []byte("null"), nil
		}
		return []byte(v.String()), nil
	}
	return []byte(v.String()), nil // true, false
}

func (c *place) stringifyObject(o *sobek.Object) ([]byte, error) {
	if _, ok := sobek.AssertFunction(o); ok {
		return nil, nil
	}
	return o.MarshalJSON()
}

// quote returns the JSON of a string, without what only HTML needs.
func quote(s string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
